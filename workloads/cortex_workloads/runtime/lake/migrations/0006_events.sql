-- Event sourcing of resources, revisions, threads and runs. Each change of such a row is an event, written in the same
-- transaction by a trigger, so by pods of the release before, too. The rows are read models: replaying the events of
-- an aggregate makes its row (runtime/state/history.py compares and restores).
--
-- An aggregate is named `resource`, `revision/ID`, `thread/NAME` or `run/UUID` within its resource.

-- Append-only. `version` counts the events of an aggregate from 1 without a gap; `data` is what changed, by column;
-- `by` names the connection that wrote it. `position` is where the event stands in its resource's feed: NULL until it
-- is numbered, which makes this table its own outbox.
CREATE TABLE events (
    resource_id bigint NOT NULL REFERENCES resources ON DELETE CASCADE,
    aggregate   text COLLATE "C" NOT NULL,
    version     bigint NOT NULL CHECK (version > 0),
    id          bigint GENERATED ALWAYS AS IDENTITY,
    type        text NOT NULL,
    data        jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    by          text NOT NULL DEFAULT current_setting('application_name'),
    position    bigint,
    PRIMARY KEY (resource_id, aggregate, version)
) PARTITION BY HASH (resource_id);
DO $$
BEGIN
    FOR number IN 0..7 LOOP
        EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES WITH (MODULUS 8, REMAINDER %s)',
                       chr(97 + number), number);
    END LOOP;
END $$;
CREATE INDEX events_outbox ON events (resource_id, id) WHERE position IS NULL;
CREATE UNIQUE INDEX events_feed ON events (resource_id, position);

-- The last position given in each resource's feed.
CREATE TABLE feeds (
    resource_id bigint PRIMARY KEY REFERENCES resources ON DELETE CASCADE,
    position    bigint NOT NULL DEFAULT 0
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only: % % of resource % cannot be changed',
        OLD.aggregate, OLD.version, OLD.resource_id;
END $$;
-- They go with their resource alone (`cortex.dropping` is on in a transaction that drops it in parts).
CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND (current_setting('cortex.dropping', true) = 'on'
                             OR NOT EXISTS (SELECT FROM resources WHERE id = OLD.resource_id)) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'events are append-only: they cannot be removed';
END $$;
CREATE TRIGGER never_removed BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER append_only BEFORE UPDATE OF resource_id, aggregate, version, id, type, data, at, by ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

ALTER TABLE resources ADD COLUMN version bigint NOT NULL DEFAULT 1;
-- The revision that answers, of the revisions' phases; empty while there is none.
ALTER TABLE resources ADD COLUMN current text NOT NULL DEFAULT '';
UPDATE resources s SET current = r.revision FROM revisions r WHERE r.resource_id = s.id AND r.phase = 'Current';
ALTER TABLE revisions ADD COLUMN version bigint NOT NULL DEFAULT 1;
ALTER TABLE threads ADD COLUMN version bigint NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN version bigint NOT NULL DEFAULT 1;

-- Columns that are no state: names, keys, and who holds a lease for some seconds.
CREATE FUNCTION hidden_columns(kind text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'resource' THEN '{version,id,kind,namespace,name}'
        WHEN 'revision' THEN '{version,resource_id,revision}'
        WHEN 'thread' THEN '{version,resource_id,thread}'
        WHEN 'run' THEN '{version,resource_id,run_id,owner,lease_until}'
    END::text[]
$$;

-- The state of an aggregate as it stands, with its version; no row when there is none.
CREATE FUNCTION state_of(resource bigint, aggregate text, OUT version bigint, OUT state jsonb)
RETURNS SETOF record LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
DECLARE
    prefix CONSTANT text := split_part(aggregate, '/', 1);
    key CONSTANT text := substr(aggregate, length(prefix) + 2);
BEGIN
    CASE prefix
    WHEN 'resource' THEN
        RETURN QUERY SELECT t.version, to_jsonb(t) - hidden_columns(prefix) FROM resources t
            WHERE t.id = resource AND key = '';
    WHEN 'revision' THEN
        RETURN QUERY SELECT t.version, to_jsonb(t) - hidden_columns(prefix) FROM revisions t
            WHERE t.resource_id = resource AND t.revision = key;
    WHEN 'thread' THEN
        RETURN QUERY SELECT t.version, to_jsonb(t) - hidden_columns(prefix) FROM threads t
            WHERE t.resource_id = resource AND t.thread = key;
    WHEN 'run' THEN
        IF pg_input_is_valid(key, 'uuid') THEN
            RETURN QUERY SELECT t.version, to_jsonb(t) - hidden_columns(prefix) FROM runs t
                WHERE t.run_id = key::uuid AND t.resource_id = resource;
        END IF;
    ELSE
    END CASE;
END $$;

-- The version alone: what a copy is compared with.
CREATE FUNCTION version_of(resource bigint, aggregate text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    kind CONSTANT text := split_part(aggregate, '/', 1);
    key CONSTANT text := substr(aggregate, length(kind) + 2);
BEGIN
    CASE kind
    WHEN 'resource' THEN RETURN (SELECT t.version FROM resources t WHERE t.id = resource AND key = '');
    WHEN 'revision' THEN
        RETURN (SELECT t.version FROM revisions t WHERE t.resource_id = resource AND t.revision = key);
    WHEN 'thread' THEN RETURN (SELECT t.version FROM threads t WHERE t.resource_id = resource AND t.thread = key);
    WHEN 'run' THEN
        IF pg_input_is_valid(key, 'uuid') THEN
            RETURN (SELECT t.version FROM runs t WHERE t.run_id = key::uuid AND t.resource_id = resource);
        END IF;
    ELSE
    END CASE;
    RETURN NULL;
END $$;

-- Every aggregate of a resource as its read model has it.
CREATE FUNCTION states_of(resource bigint) RETURNS TABLE (aggregate text, version bigint, state jsonb)
LANGUAGE sql STABLE SET timezone = 'UTC' AS $$
    SELECT 'resource', t.version, to_jsonb(t) - hidden_columns('resource') FROM resources t WHERE t.id = resource
    UNION ALL
    SELECT 'revision/' || t.revision, t.version, to_jsonb(t) - hidden_columns('revision')
    FROM revisions t WHERE t.resource_id = resource
    UNION ALL
    SELECT 'thread/' || t.thread, t.version, to_jsonb(t) - hidden_columns('thread')
    FROM threads t WHERE t.resource_id = resource
    UNION ALL
    SELECT 'run/' || t.run_id, t.version, to_jsonb(t) - hidden_columns('run') FROM runs t WHERE t.resource_id = resource
$$;

-- The same, made of the events alone. `events` are there, `first` is the lowest version: without a gap 1 to `version`.
CREATE AGGREGATE jsonb_merge(jsonb) (sfunc = jsonb_concat, stype = jsonb, initcond = '{}');
CREATE FUNCTION replay(resource bigint)
RETURNS TABLE (aggregate text, version bigint, state jsonb, removed boolean, events bigint, first bigint)
LANGUAGE sql STABLE AS $$
    SELECT e.aggregate, max(e.version), jsonb_merge(e.data ORDER BY e.version),
           (array_agg(e.type ORDER BY e.version DESC))[1] = 'RevisionRemoved', count(*), min(e.version)
    FROM events e WHERE e.resource_id = resource GROUP BY e.aggregate
$$;

-- Triggers: the version, then the event. `cortex.restoring` (of a transaction) is on while read models are restored.
CREATE FUNCTION count_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    full_row CONSTANT jsonb := CASE WHEN TG_OP = 'INSERT' THEN to_jsonb(NEW) END;
BEGIN
    IF current_setting('cortex.restoring', true) = 'on' THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        NEW.version := OLD.version + 1;
    ELSE
        -- After its removal an aggregate goes on where it ended.
        NEW.version := 1 + coalesce((
            SELECT max(e.version) FROM events e
            WHERE e.resource_id = (full_row ->> 'resource_id')::bigint
              AND e.aggregate = kind || '/' || (full_row ->> TG_ARGV[1])), 0);
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION record_event() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    kind CONSTANT text := TG_ARGV[0];
    full_row CONSTANT jsonb := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
    resource CONSTANT bigint := (full_row ->> CASE kind WHEN 'resource' THEN 'id' ELSE 'resource_id' END)::bigint;
    number bigint := (full_row ->> 'version')::bigint;
    changed jsonb := full_row - hidden_columns(kind);
    name text;
BEGIN
    IF current_setting('cortex.restoring', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        name := CASE kind WHEN 'run' THEN 'RunStarted' WHEN 'thread' THEN 'ThreadStarted'
                          WHEN 'revision' THEN 'RevisionAdded' ELSE 'ResourceAdded' END;
    ELSIF TG_OP = 'DELETE' THEN
        -- The whole resource is being removed, its events with it.
        IF NOT EXISTS (SELECT FROM resources WHERE id = resource) THEN
            RETURN NULL;
        END IF;
        name := 'RevisionRemoved';
        changed := '{}';
        number := number + 1;
    ELSE
        changed := (SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each(changed) c
                    WHERE to_jsonb(OLD) -> c.key IS DISTINCT FROM c.value);
        name := CASE
            WHEN kind = 'run' AND changed ? 'status' THEN 'Run' || (changed ->> 'status')
            WHEN kind = 'run' AND changed ? 'attempts' THEN 'RunResumed'
            WHEN kind = 'revision' AND changed ? 'phase' THEN 'Revision' || (changed ->> 'phase')
            WHEN kind = 'thread' THEN 'ThreadAdvanced'
            WHEN kind = 'resource' AND changed ? 'current' THEN 'CurrentChanged'
            ELSE initcap(kind) || 'Changed' END;
    END IF;
    INSERT INTO events (resource_id, aggregate, version, type, data)
    VALUES (resource, kind || coalesce('/' || (full_row ->> TG_ARGV[1]), ''), number, name, changed);
    RETURN NULL;
END $$;

CREATE TRIGGER version_inserted BEFORE INSERT ON revisions FOR EACH ROW EXECUTE FUNCTION count_version('revision', 'revision');
CREATE TRIGGER version_inserted BEFORE INSERT ON threads FOR EACH ROW EXECUTE FUNCTION count_version('thread', 'thread');
CREATE TRIGGER version_inserted BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION count_version('run', 'run_id');

CREATE TRIGGER version_updated BEFORE UPDATE OF retain, current ON resources FOR EACH ROW
    WHEN ((OLD.retain, OLD.current) IS DISTINCT FROM (NEW.retain, NEW.current))
    EXECUTE FUNCTION count_version('resource');
CREATE TRIGGER version_updated BEFORE UPDATE OF definition, phase, message, model_files, changed_at ON revisions
    FOR EACH ROW WHEN ((OLD.definition, OLD.phase, OLD.message, OLD.model_files, OLD.changed_at)
        IS DISTINCT FROM (NEW.definition, NEW.phase, NEW.message, NEW.model_files, NEW.changed_at))
    EXECUTE FUNCTION count_version('revision', 'revision');
CREATE TRIGGER version_updated BEFORE UPDATE OF revision, state, changed_at ON threads FOR EACH ROW
    WHEN ((OLD.revision, OLD.state, OLD.changed_at) IS DISTINCT FROM (NEW.revision, NEW.state, NEW.changed_at))
    EXECUTE FUNCTION count_version('thread', 'thread');
CREATE TRIGGER version_updated BEFORE UPDATE OF status, output, failure, steps, attempts, crashes, finished_at ON runs
    FOR EACH ROW WHEN ((OLD.status, OLD.output, OLD.failure, OLD.steps, OLD.attempts, OLD.crashes, OLD.finished_at)
        IS DISTINCT FROM (NEW.status, NEW.output, NEW.failure, NEW.steps, NEW.attempts, NEW.crashes, NEW.finished_at))
    EXECUTE FUNCTION count_version('run', 'run_id');

CREATE TRIGGER event_inserted AFTER INSERT ON resources FOR EACH ROW EXECUTE FUNCTION record_event('resource');
CREATE TRIGGER event_inserted AFTER INSERT ON revisions FOR EACH ROW EXECUTE FUNCTION record_event('revision', 'revision');
CREATE TRIGGER event_inserted AFTER INSERT ON threads FOR EACH ROW EXECUTE FUNCTION record_event('thread', 'thread');
CREATE TRIGGER event_inserted AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION record_event('run', 'run_id');
CREATE TRIGGER event_updated AFTER UPDATE ON resources FOR EACH ROW
    WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION record_event('resource');
CREATE TRIGGER event_updated AFTER UPDATE ON revisions FOR EACH ROW
    WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION record_event('revision', 'revision');
CREATE TRIGGER event_updated AFTER UPDATE ON threads FOR EACH ROW
    WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION record_event('thread', 'thread');
CREATE TRIGGER event_updated AFTER UPDATE ON runs FOR EACH ROW
    WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION record_event('run', 'run_id');
CREATE TRIGGER event_deleted AFTER DELETE ON revisions FOR EACH ROW EXECUTE FUNCTION record_event('revision', 'revision');

-- The pointer follows the phases when the transaction ends: one event for a switch, not one for each step of it.
CREATE FUNCTION follow_current() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    resource CONSTANT bigint := coalesce(NEW.resource_id, OLD.resource_id);
    now_current CONSTANT text := coalesce(
        (SELECT r.revision FROM revisions r WHERE r.resource_id = resource AND r.phase = 'Current'), '');
BEGIN
    UPDATE resources SET current = now_current WHERE id = resource AND current <> now_current;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER current_inserted AFTER INSERT ON revisions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.phase = 'Current') EXECUTE FUNCTION follow_current();
CREATE CONSTRAINT TRIGGER current_updated AFTER UPDATE ON revisions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.phase <> NEW.phase AND 'Current' IN (OLD.phase, NEW.phase)) EXECUTE FUNCTION follow_current();
CREATE CONSTRAINT TRIGGER current_deleted AFTER DELETE ON revisions DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.phase = 'Current') EXECUTE FUNCTION follow_current();

-- Numbers what stands in a resource's outbox, at most `most` events, oldest first. Returns the feed's `last` position;
-- `complete`: every event that was committed before the call has a position.
CREATE FUNCTION number_events(resource bigint, most int, OUT last bigint, OUT complete boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    numbered bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM events e WHERE e.resource_id = resource AND e.position IS NULL) THEN
        INSERT INTO feeds (resource_id) VALUES (resource) ON CONFLICT DO NOTHING;
        -- The next statement sees what those have committed that held this lock before.
        PERFORM FROM feeds f WHERE f.resource_id = resource FOR UPDATE;
        WITH waiting AS (
            SELECT e.aggregate, e.version, row_number() OVER (ORDER BY e.id) AS place
            FROM (SELECT e.aggregate, e.version, e.id FROM events e
                  WHERE e.resource_id = resource AND e.position IS NULL ORDER BY e.id LIMIT most) e),
        given AS (
            UPDATE events e SET position = f.position + w.place FROM waiting w, feeds f
            WHERE e.resource_id = resource AND e.aggregate = w.aggregate AND e.version = w.version
              AND f.resource_id = resource
            RETURNING e.position),
        moved AS (UPDATE feeds f SET position = f.position + (SELECT count(*) FROM given) WHERE f.resource_id = resource)
        SELECT count(*) INTO numbered FROM given;
    END IF;
    SELECT coalesce(max(f.position), 0) INTO last FROM feeds f WHERE f.resource_id = resource;
    complete := numbered < most;
END $$;

-- What is there already begins its history now.
INSERT INTO events (resource_id, aggregate, version, type, data)
SELECT s.id, found.aggregate, found.version, 'Imported', found.state
FROM resources s, LATERAL states_of(s.id) AS found;
