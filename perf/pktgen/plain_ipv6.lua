-- Plain IPv6 over KEDGE_PREFIXES prefixes, at KEDGE_RATE percent for KEDGE_SECONDS.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local kedge = dofile(here .. "kedge.lua")
kedge.main(function() kedge.measure("plain_ipv6") end)
