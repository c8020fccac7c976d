-- What the pipeline may do: rows of the star schema, and tables of its own in that schema (the epoch fence).
-- The password is one for a demo: change it before a real use.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millstream_target') THEN
    CREATE ROLE millstream_target LOGIN PASSWORD 'target-demo';
  END IF;
END $$;
GRANT USAGE, CREATE ON SCHEMA classicmodels_star_schema TO millstream_target;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA classicmodels_star_schema TO millstream_target;
