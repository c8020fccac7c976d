-- Clicks grouped into sessions: a user's session ends when no click follows for 15 minutes. Each session is
-- written once, when it is over, with its metrics and the time at which it was computed.
SET 'pipeline.name' = 'user_sessions';
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
  'properties.group.id' = 'user_sessions',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE user_sessions (
  user_id         INT,
  session_start   TIMESTAMP(3),
  session_end     TIMESTAMP(3),
  clicks          BIGINT,
  pages           BIGINT,
  exports         BIGINT,
  active_seconds  INT,
  seconds_a_click DECIMAL(10, 2),
  processed_at    TIMESTAMP(3),
  PRIMARY KEY (user_id, session_start) NOT ENFORCED
) WITH (
  'connector' = 'jdbc',
  'url' = 'jdbc:postgresql://target-db:5432/warehouse',
  'table-name' = 'telemetry.user_sessions',
  'username' = 'millstream_target',
  'password' = 'target-demo'
);

INSERT INTO user_sessions
SELECT user_id, window_start, window_end, clicks, pages, exports, active_seconds,
       CAST(CAST(active_seconds AS DECIMAL(10, 2)) / clicks AS DECIMAL(10, 2)), LOCALTIMESTAMP
FROM (
  SELECT `user_id`, window_start, window_end,
         COUNT(*) AS clicks,
         COUNT(DISTINCT `page`) AS pages,
         COUNT(*) FILTER (WHERE `action` = 'export') AS exports,
         -- the gap of 15 minutes behind the last click is no activity
         TIMESTAMPDIFF(SECOND, window_start, window_end) - 900 AS active_seconds
  FROM TABLE(SESSION(TABLE clicks PARTITION BY `user_id`, DESCRIPTOR(`ts`), INTERVAL '15' MINUTE))
  GROUP BY `user_id`, window_start, window_end
);
