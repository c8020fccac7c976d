-- What topic iot.rolling_statistics has to hold, one row a record: the windows that are over at the last reading
-- less the watermark's five seconds.
WITH windows AS (
  SELECT r.*, w AT TIME ZONE 'UTC' AS window_start
  FROM iot.readings AS r,
       generate_series(date_trunc('minute', r.ts) - interval '9 minutes', date_trunc('minute', r.ts),
                       interval '1 minute') AS w
)
SELECT device_id, window_start, window_start + interval '10 minutes' AS window_end, count(*) AS readings,
       round(avg(temperature), 3) AS avg_temperature, min(temperature) AS min_temperature,
       max(temperature) AS max_temperature, round(avg(humidity), 3) AS avg_humidity, min(battery) AS min_battery
FROM windows
GROUP BY device_id, window_start
HAVING window_start + interval '10 minutes' - interval '1 millisecond'
       <= (SELECT max(ts) AT TIME ZONE 'UTC' - interval '5 seconds' FROM iot.readings)
ORDER BY device_id, window_start
