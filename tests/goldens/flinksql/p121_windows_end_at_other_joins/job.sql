-- case: a join that is not by window, OVER and deduplication take the window away: GROUP BY window_start, window_end behind them is a regular aggregation
-- compare: final
-- features: window-tvf,join,semi-join,temporal-join,over,dedup
CREATE TABLE ev (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='filesystem', 'path'='${DIR}/ev.jsonl', 'format'='json');
CREATE TABLE d (k STRING, n STRING, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/d.jsonl', 'format'='debezium-json');
CREATE TABLE r (k STRING, rate INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector'='filesystem', 'path'='${DIR}/r.jsonl', 'format'='debezium-json');
CREATE TABLE joined (ws TIMESTAMP(3), n STRING, s INT) WITH ('connector'='print', 'print-identifier'='joined');
CREATE TABLE semi_ (ws TIMESTAMP(3), we TIMESTAMP(3), s INT) WITH ('connector'='print', 'print-identifier'='semi_');
CREATE TABLE rates (ws TIMESTAMP(3), we TIMESTAMP(3), s INT) WITH ('connector'='print', 'print-identifier'='rates');
CREATE TABLE over_ (ws TIMESTAMP(3), we TIMESTAMP(3), n BIGINT) WITH ('connector'='print', 'print-identifier'='over_');
CREATE TABLE first_ (ws TIMESTAMP(3), we TIMESTAMP(3), n BIGINT) WITH ('connector'='print', 'print-identifier'='first_');
CREATE TABLE top_ (ws TIMESTAMP(3), we TIMESTAMP(3), k STRING, v INT) WITH ('connector'='print', 'print-identifier'='top_');
INSERT INTO joined SELECT w.window_start, d.n, SUM(w.v) FROM (SELECT k, v, window_start, window_end FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) w JOIN d ON w.k = d.k GROUP BY w.window_start, w.window_end, d.n;
INSERT INTO semi_ SELECT window_start, window_end, SUM(v) FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE k IN (SELECT k FROM d WHERE n <> 'B') GROUP BY window_start, window_end;
INSERT INTO rates SELECT w.window_start, w.window_end, SUM(w.v * r.rate) FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) AS w JOIN r FOR SYSTEM_TIME AS OF w.ts ON w.k = r.k GROUP BY w.window_start, w.window_end;
INSERT INTO over_ SELECT window_start, window_end, COUNT(*) FROM (SELECT window_start, window_end, LAG(v) OVER (PARTITION BY k ORDER BY ts) p FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE p IS NULL GROUP BY window_start, window_end;
INSERT INTO first_ SELECT window_start, window_end, COUNT(*) FROM (SELECT window_start, window_end, k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts) rn FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) WHERE rn = 1) GROUP BY window_start, window_end;
INSERT INTO top_ SELECT window_start, window_end, k, v FROM (SELECT window_start, window_end, k, v, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC) rn FROM (SELECT w.* FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) w JOIN ev e ON w.id = e.id AND w.ts BETWEEN e.ts - INTERVAL '1' SECOND AND e.ts)) WHERE rn <= 1;
