-- What our Pktgen scripts share: settings, packets, trials. For Pktgen 23.03, and only functions that it has.
--
-- Pktgen gives a script no arguments, so settings are environment variables; BENCH.md lists them.

local kedge = {}

-- Reads a number from the environment; refuses what is none, or out of bounds.
function kedge.number(name, default, least, most)
  local text = os.getenv(name)
  if text == nil or text == "" then return default end
  local value = tonumber(text)
  if value == nil or value < least or value > most then
    error(string.format("%s must be a number from %s to %s, not '%s'", name, least, most, text), 0)
  end
  return value
end

-- A whole one.
function kedge.count(name, default, least, most)
  local value = kedge.number(name, default, least, most)
  local whole = math.tointeger(value)
  if whole == nil then error(string.format("%s must be a whole number, not %s", name, value), 0) end
  return whole
end

function kedge.address(name)
  local text = os.getenv(name) or ""
  if not text:match("^%x%x:%x%x:%x%x:%x%x:%x%x:%x%x$") then
    error(name .. " must be a link-layer address such as 02:00:00:00:00:02, not '" .. text .. "'", 0)
  end
  return text
end

kedge.send = tostring(kedge.count("KEDGE_SEND", 0, 0, 63))
kedge.receive = tostring(kedge.count("KEDGE_RECEIVE", 1, 0, 63))

-- The first /64s of each kind: the 32 bits before bit 64 of 2001:db8::.
local NEAR, FAR, ANCHORED = 0x0e000000, 0x0f000000, 0x01000000
local MOST_PREFIXES = 1 << 24

local function host(word)
  return string.format("2001:db8:%x:%x::1", word >> 16, word & 0xffff)
end

-- All four values of a range: a forgotten one keeps what was there before.
local function range(set, first, least, most, step)
  set(kedge.send, "start", first)
  set(kedge.send, "min", least)
  set(kedge.send, "max", most)
  set(kedge.send, "inc", step)
end

local function fixed(set, value, none)
  range(set, value, value, value, none)
end

-- Pktgen's own packets: UDP from NEAR to as many /64s from `first` on as there are prefixes.
local function generated(first)
  local size = kedge.count("KEDGE_SIZE", 78, 66, 1518)
  local prefixes = kedge.count("KEDGE_PREFIXES", 1, 1, MOST_PREFIXES)
  local it = pktgen.range
  it.set_type(kedge.send, "ipv6")
  it.ip_proto(kedge.send, "udp")
  local gateway = kedge.address("KEDGE_GATEWAY")
  fixed(it.dst_mac, gateway, "00:00:00:00:00:00")
  fixed(it.src_ip, host(NEAR), "::")
  local step = prefixes > 1 and "0:0:0:1::" or "::"
  range(it.dst_ip, host(first), host(first), host(first + prefixes - 1), step)
  fixed(it.src_port, 10000, 0)
  fixed(it.dst_port, 9, 0)
  fixed(it.hop_limits, 64, 0)
  fixed(it.pkt_size, size, 0)
  pktgen.set_range(kedge.send, "on")
end

kedge.traffic = {
  plain_ipv6 = function() generated(FAR) end,
  encapsulate = function() generated(ANCHORED) end,
  -- There is no IPv6 in IPv6 in Pktgen: the frames are those of the pcap file that it was started with (-s).
  decapsulate = function() pktgen.pcap(kedge.send, "on") end,
}

-- Pktgen reads the NIC's counters once a second, so they are right only some time after the last packet.
local SETTLE_MS = 2500

local function counters()
  pktgen.delay(SETTLE_MS)
  local sent = pktgen.portStats(kedge.send, "port")[tonumber(kedge.send)].opackets
  local received = pktgen.portStats(kedge.receive, "port")[tonumber(kedge.receive)].ipackets
  return sent, received
end

-- Sends for some seconds at some percentage of the link's rate; says how much went out and came back.
function kedge.trial(percent, seconds)
  pktgen.set(kedge.send, "rate", percent)
  local sent_before, received_before = counters()
  pktgen.start(kedge.send)
  pktgen.delay(math.floor(seconds * 1000))
  pktgen.stop(kedge.send)
  local sent, received = counters()
  sent, received = sent - sent_before, received - received_before
  if sent <= 0 then error("nothing was sent: is the link of port " .. kedge.send .. " up?", 0) end
  return sent, received
end

-- What every script begins with. Counted without end; how long is up to the trial.
function kedge.prepare(name)
  local set_up = kedge.traffic[name]
  if set_up == nil then
    error("KEDGE_TRAFFIC must be plain_ipv6, encapsulate or decapsulate, not '" .. tostring(name) .. "'", 0)
  end
  pktgen.screen("off")
  pktgen.set(kedge.send, "count", 0)
  set_up()
end

-- One measurement at a fixed rate: what plain_ipv6.lua, encapsulate.lua and decapsulate.lua do.
function kedge.measure(name)
  local percent = kedge.number("KEDGE_RATE", 100, 0.001, 100)
  local seconds = kedge.number("KEDGE_SECONDS", 10, 1, 86400)
  kedge.prepare(name)
  local sent, received = kedge.trial(percent, seconds)
  print(string.format("%s: sent %d received %d, %.3f Mpps out, %.3f Mpps back, lost %.6f",
    name, sent, received, sent / seconds / 1e6, received / seconds / 1e6, math.max(0, sent - received) / sent))
end

-- Runs a script's work and leaves Pktgen, whatever happens: after an error it would sit at its prompt for ever.
function kedge.main(work)
  local fine, message = pcall(work)
  if not fine then print("kedge: " .. tostring(message)) end
  pktgen.quit()
end

return kedge
