-- Plain IPv6 to nodes that are elsewhere: the gateway puts it into a tunnel.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local kedge = dofile(here .. "kedge.lua")
kedge.main(function() kedge.measure("encapsulate") end)
