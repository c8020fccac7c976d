CREATE SCHEMA app;
CREATE TABLE app.dbz_signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text NULL);
CREATE TABLE app.items (id int PRIMARY KEY, v text, w int); CREATE TABLE app.more (k1 text, k2 int, v int, PRIMARY KEY (k1, k2)); CREATE TABLE app.nokey (v text, s int);
CREATE TABLE app.empty (id int PRIMARY KEY);
INSERT INTO app.items SELECT g, 'v'||g, 100-g FROM generate_series(1,8) g;
INSERT INTO app.more VALUES ('a',1,1),('a',2,2),('b',1,3);
INSERT INTO app.nokey VALUES ('x',1),('y',2),('z',3);
