-- Runs and threads of workflows. Checkpoints stand beside them, in the tables of LangGraph's saver.

-- A thread goes on with the revision that it began with. `state` is what its last successful run left.
CREATE TABLE threads (
    resource_id bigint NOT NULL REFERENCES resources ON DELETE CASCADE,
    thread      text NOT NULL,
    revision    text NOT NULL,
    state       jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (resource_id, thread)
);

-- A run belongs to the pod that holds its lease. `attempts` counts starts, `crashes` those that ended without a word:
-- a pod that drains gives its lease back, and that costs nothing.
CREATE TABLE runs (
    run_id      uuid PRIMARY KEY,
    resource_id bigint NOT NULL,
    thread      text NOT NULL,
    revision    text NOT NULL,
    input       jsonb NOT NULL,
    status      text NOT NULL DEFAULT 'Running' CHECK (status IN ('Running', 'Succeeded', 'Failed')),
    output      jsonb,
    failure     jsonb,
    steps       int NOT NULL DEFAULT 0,
    attempts    int NOT NULL DEFAULT 1,
    crashes     int NOT NULL DEFAULT 0,
    owner       text NOT NULL DEFAULT '',
    lease_until timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    FOREIGN KEY (resource_id, thread) REFERENCES threads ON DELETE CASCADE
);
CREATE UNIQUE INDEX runs_one_running ON runs (resource_id, thread) WHERE status = 'Running';
CREATE INDEX runs_leases ON runs (resource_id, lease_until) WHERE status = 'Running';
