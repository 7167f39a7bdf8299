-- The Lake's first schema. Forward only: expand, then contract one release later.
CREATE EXTENSION IF NOT EXISTS vector;

-- One row per custom resource, found by what names it.
CREATE TABLE resources (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('CortexIndex', 'CortexWorkflow')),
    namespace  text NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, namespace, name)
);

-- One state machine for both kinds. Phases change by compare and set (lake/revisions.py).
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

-- What clients pushed. `digest` tells a change of text or title from a change of metadata alone.
CREATE TABLE documents (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource_id bigint NOT NULL REFERENCES resources ON DELETE CASCADE,
    document    text NOT NULL,
    title       text NOT NULL DEFAULT '',
    content     text NOT NULL DEFAULT '',
    meta        jsonb NOT NULL DEFAULT '{}',
    digest      bytea NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    written_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (resource_id, document)
);
CREATE INDEX documents_meta ON documents USING gin (meta jsonb_path_ops);

-- The queue: documents that a revision has not embedded yet (taken with SKIP LOCKED).
CREATE TABLE waiting (
    revision_id bigint NOT NULL REFERENCES revisions ON DELETE CASCADE,
    document_id bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    attempts    int NOT NULL DEFAULT 0,
    PRIMARY KEY (revision_id, document_id)
);

-- Embedded passages. [start, stop) are code points of documents.content.
CREATE TABLE chunks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    revision_id bigint NOT NULL REFERENCES revisions ON DELETE CASCADE,
    document_id bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    ordinal     int NOT NULL,
    start       int NOT NULL,
    stop        int NOT NULL,
    embedding   halfvec(384) NOT NULL,
    UNIQUE (revision_id, document_id, ordinal)
);
CREATE INDEX chunks_document ON chunks (document_id);
