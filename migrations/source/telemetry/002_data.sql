-- Six hours of 40 devices that report every 30 seconds (28,800 readings), and about 6,000 clicks of 60 users in
-- sessions. Everything is computed from row numbers, so that every load gives the same rows.
INSERT INTO iot.readings (device_id, ts, temperature, humidity, battery)
SELECT (1 + g % 40)::int,
       timestamptz '2026-03-01 08:00:00+00' + (g / 40) * interval '30 seconds' + (g % 40) * interval '0.5 seconds',
       round((18 + (g % 40) * 0.2 + 4 * sin(g / 4000.0) + (g * 7919 % 1000) / 250.0)::numeric, 2),
       CASE WHEN g % 97 = 0 THEN NULL ELSE round((40 + (g * 104729 % 3000) / 100.0)::numeric, 2) END,
       (100 - g / 600)::int
FROM generate_series(0::bigint, 28799) AS g
ORDER BY g;

INSERT INTO web.clicks (user_id, ts, page, action)
SELECT user_id, ts, page, action
FROM (
  SELECT 1 + s % 60 AS user_id,
         timestamptz '2026-03-01 08:00:00+00' + s * interval '23 seconds'
           + c * (20 + (s * 31 + c * 17) % 120) * interval '1 second' AS ts,
         (ARRAY['/', '/devices', '/devices/detail', '/alarms', '/reports', '/account'])[1 + (s * 7 + c * 5) % 6] AS page,
         CASE WHEN (s + c) % 11 = 0 THEN 'acknowledge' WHEN c % 4 = 3 THEN 'export' ELSE 'view' END AS action,
         s, c
  FROM generate_series(0, 899) AS s, generate_series(0, 9) AS c
  WHERE c < 3 + s * 13 % 8
) AS clicks
ORDER BY ts, s, c;
