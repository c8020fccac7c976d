-- case: UNION ALL of equal windows keeps the window, and so does a CAST that changes nothing
-- compare: multiset
-- features: window-tvf,union-all,window-topn
CREATE TABLE ev (id INT, k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='filesystem', 'path'='${DIR}/ev.jsonl', 'format'='json');
CREATE TABLE ew (k STRING, t TIMESTAMP(3), v INT, WATERMARK FOR t AS t) WITH ('connector'='filesystem', 'path'='${DIR}/ew.jsonl', 'format'='json');
CREATE TABLE sums (ws TIMESTAMP(3), we TIMESTAMP(3), s INT) WITH ('connector'='print', 'print-identifier'='sums');
CREATE TABLE two (ws TIMESTAMP(3), s INT) WITH ('connector'='print', 'print-identifier'='two');
CREATE TABLE top_ (ws TIMESTAMP(3), k STRING, s INT) WITH ('connector'='print', 'print-identifier'='top_');
CREATE TABLE casts (ws TIMESTAMP(3), we TIMESTAMP(3), n BIGINT) WITH ('connector'='print', 'print-identifier'='casts');
INSERT INTO sums SELECT window_start, window_end, SUM(v) FROM (SELECT v, window_start, window_end FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) UNION ALL SELECT v * 10, window_start, window_end FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) GROUP BY window_start, window_end;
INSERT INTO two SELECT window_start, SUM(v) FROM (SELECT v, window_start, window_end FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) UNION ALL SELECT v, window_start, window_end FROM TABLE(TUMBLE(TABLE ew, DESCRIPTOR(t), INTERVAL '10' SECOND))) GROUP BY window_start, window_end;
INSERT INTO top_ SELECT window_start, k, s FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY s DESC) rn FROM (SELECT window_start, window_end, k, SUM(v) s FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k UNION ALL SELECT window_start, window_end, 'all', SUM(v) + 1 FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end)) WHERE rn <= 1;
INSERT INTO casts SELECT ws, we, COUNT(*) FROM (SELECT CAST(window_start AS TIMESTAMP(3)) ws, window_end we FROM TABLE(TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '10' SECOND))) GROUP BY ws, we;
