#!lua name=cortex_state_1
-- Every command on the shared state, each atomic over the keys of one resource (one hash tag). A change of what a
-- function means takes a new number in all names: pods of two releases share one server.
--
-- feed hash: epoch, position (of the last event applied), last (which event that was), watermark (this server's time
-- in ms: every event acknowledged before it is applied). Copies: fields as JSON, with _version, _epoch and _removed.
-- A copy of another epoch counts as none.

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function put(key, epoch, version, ttl, fields)
  local there = redis.call('HMGET', key, '_epoch', '_version')
  if there[1] == epoch and tonumber(there[2]) >= version then
    return 0
  end
  if there[1] ~= epoch or #fields == 0 then
    redis.call('DEL', key)
  end
  redis.call('HSET', key, '_epoch', epoch, '_version', version, '_removed', #fields == 0 and 1 or 0, unpack(fields))
  if ttl > 0 then
    redis.call('PEXPIRE', key, ttl)
  else
    redis.call('PERSIST', key)
  end
  return 1
end

-- KEYS feed. -> now, epoch, position, last, watermark
local function look(keys)
  local feed = redis.call('HMGET', keys[1], 'epoch', 'position', 'last', 'watermark')
  return {now(), feed[1] or '', tonumber(feed[2]) or 0, feed[3] or '', tonumber(feed[4]) or 0}
end

-- KEYS feed, copy. -> now, epoch, watermark, {field, value, ...}
local function read(keys)
  local feed = redis.call('HMGET', keys[1], 'epoch', 'watermark')
  return {now(), feed[1] or '', tonumber(feed[2]) or 0, redis.call('HGETALL', keys[2])}
end

-- KEYS feed, stream. ARGV expected epoch, new epoch, position, last. -> 1, or 0 when somebody else was first
local function reset(keys, args)
  if (redis.call('HGET', keys[1], 'epoch') or '') ~= args[1] then
    return 0
  end
  redis.call('DEL', keys[1], keys[2])
  redis.call('HSET', keys[1], 'epoch', args[2], 'position', args[3], 'last', args[4])
  return 1
end

-- KEYS feed. ARGV epoch, position, time. At that time nothing was acknowledged beyond the position. -> position
local function mark(keys, args)
  local feed = redis.call('HMGET', keys[1], 'epoch', 'position', 'watermark')
  if feed[1] == args[1] and tonumber(feed[2]) >= tonumber(args[2])
      and tonumber(args[3]) > (tonumber(feed[3]) or 0) then
    redis.call('HSET', keys[1], 'watermark', args[3])
  end
  return tonumber(feed[2]) or 0
end

-- KEYS feed, copy. ARGV epoch, version, ttl in ms (0: none), field, value, ... -> 1 when it was written
local function restore(keys, args)
  if redis.call('HGET', keys[1], 'epoch') ~= args[1] then
    return 0
  end
  return put(keys[2], args[1], tonumber(args[2]), tonumber(args[3]), {unpack(args, 4)})
end

-- KEYS feed, stream, copy...
-- ARGV epoch, bound of the stream, last, number of events, (position, message, invalidates, aggregate, version, type,
-- data, at, by) of each, then of each copy: version, ttl in ms, number of fields (0: removed), field, value, ...
-- -> the feed's position. Events that were applied before are skipped; after a gap nothing is applied.
local function apply(keys, args)
  local feed = redis.call('HMGET', keys[1], 'epoch', 'position')
  local have = tonumber(feed[2]) or 0
  local count, at = tonumber(args[4]), 5
  if feed[1] ~= args[1] or tonumber(args[at]) > have + 1 or tonumber(args[at + 9 * (count - 1)]) <= have then
    return have
  end
  for _ = 1, count do
    local position = tonumber(args[at])
    if position > have then
      redis.call('XADD', keys[2], 'MAXLEN', '~', args[2], args[at] .. '-0', 'aggregate', args[at + 3],
        'version', args[at + 4], 'type', args[at + 5], 'data', args[at + 6], 'at', args[at + 7], 'by', args[at + 8])
      redis.call('PUBLISH', 'cortex:state', args[at + 1])
      if args[at + 2] == '1' then
        redis.call('PUBLISH', 'cortex:invalidate', args[at + 1])
      end
      have = position
    end
    at = at + 9
  end
  redis.call('HSET', keys[1], 'position', have, 'last', args[3])
  for key = 3, #keys do
    local fields = tonumber(args[at + 2])
    put(keys[key], args[1], tonumber(args[at]), tonumber(args[at + 1]), {unpack(args, at + 3, at + 2 + fields)})
    at = at + 3 + fields
  end
  return have
end

-- State that is nowhere else. KEYS hash, stream, roster.
-- ARGV expected version (-1: any), ttl in ms (0: none), bound of the stream, aggregate, type, message up to the
-- version, then field, value, ... -> {1, version}, or {0, version that is there} when another one was expected
local function command(keys, args)
  local version = tonumber(redis.call('HGET', keys[1], '_version')) or 0
  local expected, ttl = tonumber(args[1]), tonumber(args[2])
  if expected >= 0 and expected ~= version then
    return {0, version}
  end
  version = version + 1
  redis.call('HSET', keys[1], '_version', version, unpack(args, 7))
  if ttl > 0 then
    redis.call('PEXPIRE', keys[1], ttl)
    redis.call('ZADD', keys[3], now() + ttl, args[4])
    redis.call('ZREMRANGEBYSCORE', keys[3], '-inf', '(' .. now())
    redis.call('PEXPIRE', keys[3], ttl)
  end
  redis.call('XADD', keys[2], 'MAXLEN', '~', args[3], '*', 'aggregate', args[4], 'version', version, 'type', args[5])
  redis.call('PUBLISH', 'cortex:state', args[6] .. version .. '}')
  return {1, version}
end

redis.register_function{function_name = 'cortex_state_1_look', callback = look, flags = {'no-writes'}}
redis.register_function{function_name = 'cortex_state_1_read', callback = read, flags = {'no-writes'}}
redis.register_function('cortex_state_1_reset', reset)
redis.register_function('cortex_state_1_mark', mark)
redis.register_function('cortex_state_1_restore', restore)
redis.register_function('cortex_state_1_apply', apply)
redis.register_function('cortex_state_1_command', command)
