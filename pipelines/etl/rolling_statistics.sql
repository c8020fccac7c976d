-- Rolling statistics of each device over the last ten minutes, every minute, written to a topic of their own.
SET 'pipeline.name' = 'rolling_statistics';
SET 'table.local-time-zone' = 'UTC';

CREATE TABLE readings (
  `id`          BIGINT,
  `device_id`   INT,
  `ts`          TIMESTAMP_LTZ(3),
  `temperature` DECIMAL(6, 2),
  `humidity`    DECIMAL(5, 2),
  `battery`     INT,
  WATERMARK FOR `ts` AS `ts` - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'telemetry.iot.readings',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.group.id' = 'rolling_statistics',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE rolling_statistics (
  device_id       INT,
  window_start    TIMESTAMP(3),
  window_end      TIMESTAMP(3),
  readings        BIGINT,
  avg_temperature DECIMAL(8, 3),
  min_temperature DECIMAL(6, 2),
  max_temperature DECIMAL(6, 2),
  avg_humidity    DECIMAL(8, 3),
  min_battery     INT
) WITH (
  'connector' = 'kafka',
  'topic' = 'iot.rolling_statistics',
  'properties.bootstrap.servers' = 'kafka:9092',
  'key.format' = 'json',
  'key.fields' = 'device_id',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'rolling-statistics',
  'properties.transaction.timeout.ms' = '600000'
);

INSERT INTO rolling_statistics
SELECT `device_id`, window_start, window_end, COUNT(*),
       CAST(AVG(`temperature`) AS DECIMAL(8, 3)), MIN(`temperature`), MAX(`temperature`),
       CAST(AVG(`humidity`) AS DECIMAL(8, 3)), MIN(`battery`)
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(`ts`), INTERVAL '1' MINUTE, INTERVAL '10' MINUTE))
GROUP BY `device_id`, window_start, window_end;
