-- Database registry, another server perhaps: what is known of each device, kept by other people.
CREATE TABLE devices (
  device_id       integer PRIMARY KEY,
  serial          text NOT NULL UNIQUE,
  model           text NOT NULL,
  site            text NOT NULL,
  owner_id        integer NOT NULL,
  max_temperature numeric(6,2) NOT NULL,
  installed_on    date NOT NULL
);

-- Devices 39 and 40 report, but nobody has registered them.
INSERT INTO devices
SELECT d,
       'SN-' || lpad((d * 7919 % 100000)::text, 5, '0'),
       (ARRAY['TH-100', 'TH-200', 'TH-200 outdoor'])[1 + d % 3],
       (ARRAY['Cape Town', 'Montevideo', 'Tampere', 'Da Nang'])[1 + d % 4],
       1 + d % 60,
       24 + d % 5,
       date '2024-01-01' + d * 11
FROM generate_series(1, 38) AS d;

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'millstream_lookup') THEN
    CREATE ROLE millstream_lookup LOGIN PASSWORD 'lookup-demo';
  END IF;
END $$;
GRANT SELECT ON devices TO millstream_lookup;
