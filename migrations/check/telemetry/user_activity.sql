-- What telemetry.user_activity has to hold: the windows that are over in both streams. Runs where the tables of
-- the source and the registry's devices are together.
WITH activity AS (
  SELECT user_id, date_bin('10 minutes', ts, '2026-03-01 00:00:00+00') AT TIME ZONE 'UTC' AS window_start,
         count(*) AS clicks, count(*) FILTER (WHERE action = 'acknowledge') AS acknowledged
  FROM web.clicks GROUP BY 1, 2
), measured AS (
  SELECT d.owner_id, date_bin('10 minutes', r.ts, '2026-03-01 00:00:00+00') AT TIME ZONE 'UTC' AS window_start,
         count(*) AS readings, count(DISTINCT r.device_id) AS devices, max(r.temperature) AS max_temperature,
         count(*) FILTER (WHERE r.temperature > d.max_temperature) AS over_limit
  FROM iot.readings AS r JOIN devices AS d USING (device_id) GROUP BY 1, 2
)
SELECT coalesce(a.user_id, m.owner_id) AS user_id, coalesce(a.window_start, m.window_start) AS window_start,
       coalesce(a.window_start, m.window_start) + interval '10 minutes' AS window_end,
       coalesce(a.clicks, 0) AS clicks, coalesce(a.acknowledged, 0) AS acknowledged,
       coalesce(m.readings, 0) AS readings, coalesce(m.devices, 0) AS devices, m.max_temperature,
       coalesce(m.over_limit, 0) AS over_limit
FROM activity AS a FULL JOIN measured AS m ON a.user_id = m.owner_id AND a.window_start = m.window_start
WHERE coalesce(a.window_start, m.window_start) + interval '10 minutes' - interval '1 millisecond'
      <= (SELECT least((SELECT max(ts) FROM web.clicks), (SELECT max(ts) FROM iot.readings)) AT TIME ZONE 'UTC'
                 - interval '5 seconds')
ORDER BY user_id, window_start
