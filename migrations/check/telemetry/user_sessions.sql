-- What telemetry.user_sessions has to hold, but for processed_at: the sessions that are over at the last click
-- less the watermark's five seconds.
WITH marked AS (
  SELECT *, (ts - lag(ts) OVER w > interval '15 minutes') IS NOT FALSE AS first
  FROM web.clicks WINDOW w AS (PARTITION BY user_id ORDER BY ts, id)
), numbered AS (
  SELECT *, count(*) FILTER (WHERE first) OVER (PARTITION BY user_id ORDER BY ts, id) AS session FROM marked
)
SELECT user_id, min(ts) AT TIME ZONE 'UTC' AS session_start,
       max(ts) AT TIME ZONE 'UTC' + interval '15 minutes' AS session_end,
       count(*) AS clicks, count(DISTINCT page) AS pages, count(*) FILTER (WHERE action = 'export') AS exports,
       extract(epoch FROM max(ts) - min(ts))::int AS active_seconds,
       round(extract(epoch FROM max(ts) - min(ts))::numeric / count(*), 2) AS seconds_a_click
FROM numbered
GROUP BY user_id, session
HAVING max(ts) + interval '15 minutes' - interval '1 millisecond' <= (SELECT max(ts) - interval '5 seconds' FROM web.clicks)
ORDER BY user_id, session_start
