-- The search for the highest rate without loss; ../trex/kedge_search.py says what the rules are and why.
-- `trial(percent)` returns packets sent and received; nothing here knows Pktgen.

local search = {}

-- Refuses goals that make no sense: the search would never end, or end with nonsense.
function search.check(goal)
  local function refuse(condition, message)
    if condition then error(message, 0) end
  end
  refuse(goal.trials < 1, "there must be at least 1 trial")
  refuse(goal.exceed < 0 or goal.exceed >= 1, "the exceed ratio must be at least 0 and less than 1")
  refuse(goal.loss < 0 or goal.loss >= 1, "the loss ratio must be at least 0 and less than 1")
  refuse(goal.width <= 0 or goal.width >= 1, "the width must be more than 0 and less than 1")
  refuse(goal.lowest <= 0 or goal.lowest >= goal.highest,
    "the lowest rate must be more than 0 and less than the highest")
end

-- Whether a rate is carried; and the median of what was sent, as a link is not always as fast as told.
function search.carries(trial, percent, goal)
  local may_fail = math.floor(goal.exceed * goal.trials)
  local good, bad, sent_all = 0, 0, {}
  while good < goal.trials - may_fail and bad <= may_fail do
    local sent, received = trial(percent)
    sent_all[#sent_all + 1] = sent
    if math.max(0, sent - received) / sent > goal.loss then bad = bad + 1 else good = good + 1 end
  end
  table.sort(sent_all)
  return bad <= may_fail, sent_all[#sent_all // 2 + 1], good + bad
end

-- The highest rate that was carried, in percent (0: none), packets sent in a trial at it, and trials made.
function search.run(trial, goal)
  search.check(goal)
  local trials = 0
  local function carries(percent)
    local fine, sent, more = search.carries(trial, percent, goal)
    trials = trials + more
    return fine, sent
  end
  local fine, sent = carries(goal.highest)
  if fine then return goal.highest, sent, trials end
  fine, sent = carries(goal.lowest)
  if not fine then return 0, 0, trials end
  local lower, upper, best = goal.lowest, goal.highest, sent
  while (upper - lower) / upper > goal.width do
    local middle = math.sqrt(lower * upper)
    fine, sent = carries(middle)
    if fine then lower, best = middle, sent else upper = middle end
  end
  return lower, best, trials
end

return search
