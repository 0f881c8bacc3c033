-- Searches for the highest rate that a gateway forwards without loss: KEDGE_TRAFFIC says which packets.
local here = debug.getinfo(1, "S").source:match("^@(.*/)") or "./"
local kedge = dofile(here .. "kedge.lua")
local search = dofile(here .. "search.lua")

-- As kedge-perf writes its rows; one search is one sample.
local function write(path, name, subject, prefixes, mpps, trials)
  local file = assert(io.open(path, "w"))
  local form = '  {"bench":"ndr","case":"%s","subject":"%s","prefixes":%d,"metric":"%s","unit":"%s",'
    .. '"min":%.3f,"median":%.3f,"max":%.3f}'
  local function row(metric, unit, value)
    return form:format(name, subject, prefixes, metric, unit, value, value, value)
  end
  file:write("[\n", row("ndr", "Mpps", mpps), ",\n", row("trials", "trials", trials), "\n]\n")
  file:close()
end

kedge.main(function()
  local name = os.getenv("KEDGE_TRAFFIC")
  local subject = os.getenv("KEDGE_SUBJECT") or "kedge"
  -- It is written as it is, so nothing that JSON would have to escape.
  if not subject:match("^[%w%-_. ]+$") then error("KEDGE_SUBJECT may have letters, digits, '-', '_', '.'", 0) end
  local seconds = kedge.number("KEDGE_SECONDS", 5, 1, 86400)
  local prefixes = kedge.count("KEDGE_PREFIXES", 1, 1, 1 << 24)
  local goal = {
    lowest = kedge.number("KEDGE_LOWEST", 1, 0, 100),
    highest = kedge.number("KEDGE_HIGHEST", 100, 0, 100),
    trials = kedge.count("KEDGE_TRIALS", 5, 0, 1000),
    exceed = kedge.number("KEDGE_EXCEED", 0.5, 0, 1),
    loss = kedge.number("KEDGE_LOSS", 0, 0, 1),
    width = kedge.number("KEDGE_WIDTH", 0.005, 0, 1),
  }
  search.check(goal)
  kedge.prepare(name)
  -- The first packets meet cold tables; they are not counted.
  kedge.trial(goal.lowest, seconds)
  local percent, sent, trials = search.run(function(rate) return kedge.trial(rate, seconds) end, goal)
  local mpps = sent / seconds / 1e6
  print(string.format("%s: carried %.3f %% of the link, %.3f Mpps, %d trials", name, percent, mpps, trials))
  local report = os.getenv("KEDGE_REPORT")
  if report then write(report, name, subject, prefixes, mpps, trials) end
end)
