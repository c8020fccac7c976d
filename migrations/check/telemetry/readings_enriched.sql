-- What telemetry.readings_enriched has to hold, but for processed_at. Runs where the tables of the source and the
-- registry's devices are together.
SELECT r.id AS reading_id, r.device_id, d.serial, d.model, d.site, r.ts AT TIME ZONE 'UTC' AS ts, r.temperature, r.humidity, r.battery,
       r.temperature > d.max_temperature AS over_limit
FROM iot.readings AS r LEFT JOIN devices AS d USING (device_id)
ORDER BY r.id
