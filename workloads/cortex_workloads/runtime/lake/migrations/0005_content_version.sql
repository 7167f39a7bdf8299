-- The content version of an index revision: of what its searches can return, told by kept answers (search/tables.py).
-- New sets of tables have it from the start.
DO $$
DECLARE
    found text;
BEGIN
    -- In the order in which writers take them.
    FOR found IN
        SELECT relname FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname ~ '^statistics_[0-9]+$'
        ORDER BY substring(relname FROM '[0-9]+$')::bigint
    LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT'
                       ' random(-9223372036854775808, 9223372036854775807)', found);
    END LOOP;
END $$;
