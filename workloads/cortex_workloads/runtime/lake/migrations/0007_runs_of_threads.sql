-- Runs by their thread: a thread that goes takes its runs along (0002_runs.sql), which looked at all runs of all workflows
-- for each. Writers of runs wait while it is made, about a second for a million runs; whoever has more may make it
-- beforehand, CONCURRENTLY.
CREATE INDEX IF NOT EXISTS runs_of_threads ON runs (resource_id, thread);
