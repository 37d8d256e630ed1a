-- Room limiting: take what a request costs from all its counters and pools, or from none. Runs inside the server, where
-- nothing comes in between. It decides as `settle` in window.py does, on counters of the same shape; change both.
--
-- KEYS  the counter of each claim, then each pool; all in one slot of a cluster.
-- ARGV  one packed string, big-endian, which is quicker to send and to read than many:
--       the time in microseconds as a double, -1 where the server's own is to be used; the cost (4); 1 to say what would
--       become of it and take nothing, else 0 (1); how many claims there are (4); how many milliseconds longer than
--       needed everything is kept (4);
--       for each claim the limit (4) and the seconds of its window (4);
--       for each pool the seconds it is kept without being used (4) and the deposit as a double
--
-- A counter is a packed string of 144 bytes, big-endian: the number of the step that runs (8), the sum of all steps (4),
-- and what was taken in each of 33 steps, oldest first (4 each). It is worked on as a string: most requests touch two of
-- its numbers, and unpacking 33 for that would take longer than all the rest.
--
-- A pool is `<era>:<credits>`; see `era` below.
--
-- Numbers of Lua are doubles: whole to 2^53, which microseconds reach in the year 2255. So is every division below: the
-- remainder is taken off first.
--
-- Returns one packed string, which a client reads faster than a list: the time as a double; for each claim the sum (4),
-- the steps until the first of what was taken leaves (1; 0 where nothing was) and the steps until the cost would pass
-- (1; 0 where it does, 255 where it never will); for each pool the credits as a double and whether they were too few (1).

local SLOTS = 33
local STEP_MICROSECONDS = 31250 -- for each second of the window: a 32nd
local HEAD = 12 -- bytes before the steps
local BYTES = HEAD + 4 * SLOTS
local NOTHING = string.rep('\0', 4 * SLOTS)
local NEVER = 255

local pack, unpack_at, sub = struct.pack, struct.unpack, string.sub

local function number_at(slots, index)
  return (unpack_at('>I4', slots, 4 * index - 3))
end

-- As `go_on` in window.py. Returns the sum, the steps, and whether the clock went back.
local function brought_to(stored, step)
  local at, sum = unpack_at('>I8I4', stored)
  local slots = sub(stored, HEAD + 1)
  local by = step - at
  if by < 0 then
    return sum, slots, true -- nobody can say how long ago it was taken: it counts as of now
  elseif by >= SLOTS then
    return 0, NOTHING, false
  elseif by > 0 then
    for index = 1, by do
      sum = sum - number_at(slots, index)
    end
    slots = sub(slots, 4 * by + 1) .. sub(NOTHING, 1, 4 * by)
  end
  return sum, slots, false
end

-- In how many steps so much has left the window; `amount` is 1 to the sum.
local function steps_until(slots, amount)
  for index = 1, SLOTS do
    amount = amount - number_at(slots, index)
    if amount <= 0 then
      return index
    end
  end
  return SLOTS
end

-- Who wrote a pool: this process of the server, since it last became the primary. A pool of another era counts as empty.
-- Credits are spent once, but a server that starts from an older snapshot, and a replica that takes over before it has
-- heard of everything, both know credits that were spent since. `run_id` is new with every start. `master_replid` is new
-- with every taking over as well: without it a server that is made the primary again, without having been restarted,
-- would trust what it wrote before.
local function era()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local line = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  if not run or not line then
    -- Better no quotas than credits that are granted twice. Nothing was written yet.
    error('the server does not tell its run_id and master_replid, which quotas need')
  end
  return run .. line .. ':'
end

local now, cost, test, claims, longer, at = unpack_at('>dI4BI4I4', ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local stored = redis.call('MGET', unpack(KEYS))

-- Look at everything first: whether anything may be taken depends on all of it.

local refused = false
local counters = {}
for index = 1, claims do
  local most, seconds
  most, seconds, at = unpack_at('>I4I4', ARGV[1], at)
  local length = seconds * STEP_MICROSECONDS
  local counter = { step = (now - now % length) / length, sum = 0, slots = NOTHING, went_back = false, wait = 0 }
  local value = stored[index]
  if value and #value == BYTES then
    counter.sum, counter.slots, counter.went_back = brought_to(value, counter.step)
  end
  local over = counter.sum + cost - most
  if over > 0 then
    refused = true
    counter.wait = cost > most and NEVER or steps_until(counter.slots, over)
  end
  -- What is taken now leaves after 33 steps. Whole milliseconds, upwards.
  counter.keep = math.ceil(seconds * 1000 * SLOTS / (SLOTS - 1)) + longer
  counters[index] = counter
end

local pools = {}
local mine = #KEYS > claims and era() or nil
for index = claims + 1, #KEYS do
  local seconds, deposit
  seconds, deposit, at = unpack_at('>I4d', ARGV[1], at)
  local value = stored[index]
  local held = deposit
  if value and sub(value, 1, #mine) == mine then
    held = held + tonumber(sub(value, #mine + 1))
  end
  local lacking = held < cost
  refused = refused or lacking
  pools[index] = { held = held, lacking = lacking, keep = seconds * 1000 + longer }
end

-- Take, and write down.

local take = not refused and test == 0
local answer = { pack('>d', now) }
for index = 1, claims do
  local counter = counters[index]
  if take and cost > 0 then
    counter.sum = counter.sum + cost
    counter.slots = sub(counter.slots, 1, 4 * (SLOTS - 1)) .. pack('>I4', number_at(counter.slots, SLOTS) + cost)
  end
  -- Where nothing is taken nothing is written, with one exception: a counter from before the clock was set back would
  -- otherwise count as of now for as long as the clock has not caught up.
  if (take and cost > 0) or counter.went_back then
    local value = pack('>I8I4', counter.step, counter.sum) .. counter.slots
    redis.call('SET', KEYS[index], value, 'PX', string.format('%.0f', counter.keep))
  end
  local zeros = string.match(counter.slots, '^%z*()') - 1 -- the first byte that is not 0 is of the first step of all
  local reset = zeros < #NOTHING and (zeros - zeros % 4) / 4 + 1 or 0
  answer[#answer + 1] = pack('>I4BB', counter.sum, reset, counter.wait)
end
for index = claims + 1, #KEYS do
  local pool = pools[index]
  if take then
    pool.held = pool.held - cost
  end
  if pool.held > 0 then -- whether or not anything was taken: a deposit stays, and it was used now
    redis.call('SET', KEYS[index], mine .. string.format('%.0f', pool.held), 'PX', string.format('%.0f', pool.keep))
  elseif stored[index] then
    redis.call('DEL', KEYS[index])
  end
  answer[#answer + 1] = pack('>dB', pool.held, pool.lacking and 1 or 0)
end
return table.concat(answer)
