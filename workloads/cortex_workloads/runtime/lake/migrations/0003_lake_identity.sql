-- Which Lake this is: one row, made with the schema. A pod that began with one Lake and meets another begins anew
-- (lake/identity.py).
CREATE TABLE lake_identity (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO lake_identity DEFAULT VALUES;
