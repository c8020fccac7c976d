-- case: tables and views made and read under the name of their database
-- compare: exact
-- features: database
CREATE DATABASE shop;
CREATE TABLE shop.orders (id INT, v STRING) WITH ('connector'='filesystem', 'path'='${DIR}/o.jsonl', 'format'='json');
CREATE VIEW shop.big AS SELECT id, UPPER(v) AS v FROM shop.orders WHERE id > 1;
CREATE TABLE default_catalog.shop.out_v (id INT, v STRING) WITH ('connector'='print', 'print-identifier'='out_v');
INSERT INTO shop.out_v SELECT * FROM default_catalog.shop.big;
