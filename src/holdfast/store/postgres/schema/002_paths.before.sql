-- No function of ours looks anywhere but in PostgreSQL's own schema for what it calls.
--
-- Of functions and operators PostgreSQL takes the one that fits best, wherever it finds it: whoever may
-- make functions in `public`, as everybody might until version 15, could have `nextval(text)` there,
-- and it would run with the rights of the next program that writes.
DO $$
DECLARE
    _ours regprocedure;
BEGIN
    FOR _ours IN SELECT p.oid FROM pg_catalog.pg_proc p
                   JOIN pg_catalog.pg_class c ON c.relnamespace = p.pronamespace
                  WHERE c.oid = 'holdfast.store'::regclass
    LOOP
        EXECUTE pg_catalog.format(
            'ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', _ours::text);
    END LOOP;
END $$;
