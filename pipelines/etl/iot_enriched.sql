-- Readings of IoT devices, each with what another database knows of its device (a lookup join).
-- Times are TIMESTAMP in the target: the JDBC connector of Flink takes no TIMESTAMP_LTZ. The session zone is UTC.
-- Flink asks for the device at the moment the reading goes through; a reading keeps what was known then.
SET 'pipeline.name' = 'iot_enriched';
SET 'table.local-time-zone' = 'UTC';
-- Every reading is a row of its own: two with one key are the same reading, read twice by Flink after a failure.
SET 'table.exec.sink.require-on-conflict' = 'false';

CREATE TABLE readings (
  `id`          BIGINT,
  `device_id`   INT,
  `ts`          TIMESTAMP_LTZ(3),
  `temperature` DECIMAL(6, 2),
  `humidity`    DECIMAL(5, 2),
  `battery`     INT,
  `proc_time`   AS PROCTIME()
) WITH (
  'connector' = 'kafka',
  'topic' = 'telemetry.iot.readings',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'iot_enriched',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

-- In another database; asked for the devices that readings come from, and each answer kept for ten minutes.
CREATE TABLE devices (
  device_id       INT,
  serial          STRING,
  model           STRING,
  site            STRING,
  owner_id        INT,
  max_temperature DECIMAL(6, 2),
  PRIMARY KEY (device_id) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://registry-db:5432/registry',
  'table-name' = 'devices',
  'username' = 'millstream_lookup',
  'password' = 'lookup-demo',
  'lookup.cache' = 'PARTIAL',
  'lookup.partial-cache.max-rows' = '10000',
  'lookup.partial-cache.expire-after-write' = '10 min'
);

CREATE TABLE readings_enriched (
  reading_id   BIGINT,
  device_id    INT,
  serial       STRING,
  model        STRING,
  site         STRING,
  ts           TIMESTAMP(3),
  temperature  DECIMAL(6, 2),
  humidity     DECIMAL(5, 2),
  battery      INT,
  over_limit   BOOLEAN,
  processed_at TIMESTAMP(3),
  PRIMARY KEY (reading_id) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'telemetry.readings_enriched',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

INSERT INTO readings_enriched
SELECT r.`id`, r.`device_id`, d.serial, d.model, d.site, CAST(r.`ts` AS TIMESTAMP(3)), r.`temperature`, r.`humidity`, r.`battery`,
       r.`temperature` > d.max_temperature, LOCALTIMESTAMP
FROM readings AS r
LEFT JOIN devices FOR SYSTEM_TIME AS OF r.`proc_time` AS d ON r.`device_id` = d.device_id;
