-- case: SUM of DECIMALs that overflowed begins anew with the next row
-- compare: exact
-- features: sum,decimal
CREATE TABLE t (id INT, m DECIMAL(38,2), PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='filesystem','path'='${DIR}/t.jsonl','format'='debezium-json');
CREATE TABLE o (c DECIMAL(38,2)) WITH ('connector'='print','print-identifier'='o');
INSERT INTO o SELECT SUM(m) FROM t;
