-- What the connector may do. The password is one for a demo: change it before a real use.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millstream_capture') THEN
    CREATE ROLE millstream_capture LOGIN REPLICATION PASSWORD 'capture-demo';
  END IF;
END $$;
GRANT USAGE ON SCHEMA iot, web TO millstream_capture;
GRANT SELECT ON ALL TABLES IN SCHEMA iot, web TO millstream_capture;

CREATE PUBLICATION telemetry_publication FOR TABLE iot.readings, web.clicks;
