-- IPv6 in IPv6, which the gateway takes out. Start Pktgen with -s PORT:FILE; frames.py writes the file.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local kedge = dofile(here .. "kedge.lua")
kedge.main(function() kedge.measure("decapsulate") end)
