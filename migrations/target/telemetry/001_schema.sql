-- The targets of pipelines/etl in database warehouse.
CREATE SCHEMA telemetry;
SET search_path TO telemetry;

CREATE TABLE readings_enriched (
  reading_id   bigint PRIMARY KEY,
  device_id    integer NOT NULL,
  serial       text,
  model        text,
  site         text,
  ts           timestamp(3) NOT NULL,
  temperature  numeric(6,2) NOT NULL,
  humidity     numeric(5,2),
  battery      integer NOT NULL,
  over_limit   boolean,
  processed_at timestamp(3) NOT NULL
);

CREATE TABLE user_sessions (
  user_id         integer,
  session_start   timestamp(3),
  session_end     timestamp(3) NOT NULL,
  clicks          bigint NOT NULL,
  pages           bigint NOT NULL,
  exports         bigint NOT NULL,
  active_seconds  integer NOT NULL,
  seconds_a_click numeric(10,2),
  processed_at    timestamp(3) NOT NULL,
  PRIMARY KEY (user_id, session_start)
);

CREATE TABLE user_activity (
  user_id         integer,
  window_start    timestamp(3),
  window_end      timestamp(3) NOT NULL,
  clicks          bigint NOT NULL,
  acknowledged    bigint NOT NULL,
  readings        bigint NOT NULL,
  devices         bigint NOT NULL,
  max_temperature numeric(6,2),
  over_limit      bigint NOT NULL,
  PRIMARY KEY (user_id, window_start)
);

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millstream_target') THEN
    CREATE ROLE millstream_target LOGIN PASSWORD 'target-demo';
  END IF;
END $$;
GRANT USAGE, CREATE ON SCHEMA telemetry TO millstream_target;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA telemetry TO millstream_target;
