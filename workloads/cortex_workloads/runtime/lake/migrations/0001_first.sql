-- The Lake's first schema. Forward only: expand, then contract one release later.
CREATE EXTENSION IF NOT EXISTS vector;

-- One row per custom resource, found by what names it. `retain`: revisions to keep beside the current one.
CREATE TABLE resources (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('CortexIndex', 'CortexWorkflow')),
    namespace  text NOT NULL,
    name       text NOT NULL,
    retain     int NOT NULL DEFAULT 0 CHECK (retain >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, namespace, name)
);

-- One state machine for both kinds. Phases change by compare and set (lake/revisions.py). What an index revision is
-- built from lives in tables of its own, named by the row's id (search/tables.py): a revision is dropped, not deleted.
CREATE TABLE revisions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource_id bigint NOT NULL REFERENCES resources ON DELETE CASCADE,
    revision    text NOT NULL CHECK (revision ~ '^[0-9a-f]{10}$'),
    definition  jsonb NOT NULL,
    phase       text NOT NULL CHECK (phase IN ('Building', 'Ready', 'Ramping', 'Current', 'Draining', 'Retained', 'Failed')),
    message     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (resource_id, revision)
);
CREATE UNIQUE INDEX revisions_one_current ON revisions (resource_id) WHERE phase = 'Current';

-- What clients pushed. `digest` (of title and content) tells a change of text from a change of metadata alone;
-- `version` counts the changes of text.
CREATE TABLE documents (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource_id bigint NOT NULL REFERENCES resources ON DELETE CASCADE,
    document    text COLLATE "C" NOT NULL,
    title       text NOT NULL DEFAULT '',
    content     text NOT NULL DEFAULT '',
    meta        jsonb NOT NULL DEFAULT '{}',
    digest      bytea NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    written_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (resource_id, document)
);
CREATE INDEX documents_meta ON documents USING gin (meta jsonb_path_ops);
