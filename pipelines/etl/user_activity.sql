-- One view of what a user does and what the user's devices measure: per user and ten minutes, the clicks joined
-- with the readings of the devices that the user owns (as the registry says). A window with only one of the two
-- is there as well.
SET 'pipeline.name' = 'user_activity';
SET 'table.local-time-zone' = 'UTC';
SET 'table.exec.sink.require-on-conflict' = 'false';

CREATE TABLE clicks (
  `id`      BIGINT,
  `user_id` INT,
  `ts`      TIMESTAMP_LTZ(3),
  `page`    STRING,
  `action`  STRING,
  WATERMARK FOR `ts` AS `ts` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'telemetry.web.clicks',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'user_activity',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE readings (
  `id`          BIGINT,
  `device_id`   INT,
  `ts`          TIMESTAMP_LTZ(3),
  `temperature` DECIMAL(6, 2),
  `humidity`    DECIMAL(5, 2),
  `battery`     INT,
  `proc_time`   AS PROCTIME(),
  WATERMARK FOR `ts` AS `ts` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'telemetry.iot.readings',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'user_activity',
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

CREATE TABLE user_activity (
  user_id         INT,
  window_start    TIMESTAMP(3),
  window_end      TIMESTAMP(3),
  clicks          BIGINT,
  acknowledged    BIGINT,
  readings        BIGINT,
  devices         BIGINT,
  max_temperature DECIMAL(6, 2),
  over_limit      BIGINT,
  PRIMARY KEY (user_id, window_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'telemetry.user_activity',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

CREATE VIEW owned_readings AS
SELECT d.owner_id, r.`device_id`, r.`ts`, r.`temperature`, d.max_temperature
FROM readings AS r
JOIN devices FOR SYSTEM_TIME AS OF r.`proc_time` AS d ON r.`device_id` = d.device_id;

CREATE VIEW activity AS
SELECT `user_id`, window_start, window_end, COUNT(*) AS clicks,
       COUNT(*) FILTER (WHERE `action` = 'acknowledge') AS acknowledged
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(`ts`), INTERVAL '10' MINUTE))
GROUP BY `user_id`, window_start, window_end;

CREATE VIEW measured AS
SELECT owner_id, window_start, window_end, COUNT(*) AS readings, COUNT(DISTINCT `device_id`) AS devices,
       MAX(`temperature`) AS max_temperature,
       COUNT(*) FILTER (WHERE `temperature` > max_temperature) AS over_limit
FROM TABLE(TUMBLE(TABLE owned_readings, DESCRIPTOR(`ts`), INTERVAL '10' MINUTE))
GROUP BY owner_id, window_start, window_end;

INSERT INTO user_activity
SELECT COALESCE(a.`user_id`, m.owner_id),
       COALESCE(a.window_start, m.window_start), COALESCE(a.window_end, m.window_end),
       COALESCE(a.clicks, 0), COALESCE(a.acknowledged, 0),
       COALESCE(m.readings, 0), COALESCE(m.devices, 0), m.max_temperature, COALESCE(m.over_limit, 0)
FROM activity AS a
FULL OUTER JOIN measured AS m
  ON a.`user_id` = m.owner_id AND a.window_start = m.window_start AND a.window_end = m.window_end;
