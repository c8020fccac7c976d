CREATE SCHEMA s2; CREATE TABLE a (id int PRIMARY KEY, x text, y int, z text); CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE s2.c (id int PRIMARY KEY, v text); CREATE TABLE s2.d (id int, v text); CREATE TABLE pt (id int, k int, PRIMARY KEY (id,k)) PARTITION BY RANGE (k); CREATE TABLE pt_1 PARTITION OF pt FOR VALUES FROM (0) TO (10);
INSERT INTO a VALUES (1,'x',1,'z'); INSERT INTO b VALUES (1,'v'); INSERT INTO s2.c VALUES (1,'v'); INSERT INTO s2.d VALUES (1,'d'); INSERT INTO pt VALUES (1,1);
CREATE PUBLICATION dbz_publication FOR TABLE pt, pt_1, a (id,y,z) WHERE (id < 5);
