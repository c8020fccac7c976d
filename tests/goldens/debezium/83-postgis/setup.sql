CREATE EXTENSION postgis;

CREATE TABLE shapes (
  id int PRIMARY KEY,
  anyg geometry,
  pt geometry(Point, 4326),
  poly geometry(Polygon, 3857),
  z geometry(PointZ),
  geog geography,
  gpt geography(Point, 4326),
  many geometry[],
  gmany geography[]
);
CREATE TABLE defaults (
  id int PRIMARY KEY,
  a geometry NOT NULL DEFAULT 'POINT(1 2)',
  b geometry NOT NULL DEFAULT 'SRID=4326;POINT(3 4)'::geometry,
  c geography NOT NULL DEFAULT 'POINT(5 6)',
  d geometry DEFAULT 'POINT(7 8)',
  e geometry[] NOT NULL DEFAULT '{}'
);
CREATE TABLE odd (id int PRIMARY KEY, box2 box2d, box3 box3d, v text);
CREATE DOMAIN place AS geometry(Point, 4326);
CREATE TABLE dom (id int PRIMARY KEY, p place, np place NOT NULL);
CREATE TABLE nogeo (id int PRIMARY KEY, n geometry NOT NULL, v text);
CREATE TABLE keyed (g geometry PRIMARY KEY, v text);
CREATE TABLE wide (id int PRIMARY KEY, g geometry, ng geometry NOT NULL, many geometry[], v text);
ALTER TABLE wide ALTER g SET STORAGE EXTERNAL, ALTER ng SET STORAGE EXTERNAL, ALTER many SET STORAGE EXTERNAL;
CREATE TABLE full_rows (k geometry, geog geography NOT NULL, v text);
ALTER TABLE full_rows REPLICA IDENTITY FULL;
INSERT INTO shapes VALUES
 (1, 'POINT(1 2)', 'SRID=4326;POINT(-71.06 42.28)', 'SRID=3857;POLYGON((0 0,0 1,1 1,1 0,0 0))', 'POINT Z (1 2 3)', 'POINT(10 20)', 'POINT(10 20)', ARRAY['POINT(1 2)','SRID=4326;LINESTRING(0 0,1 1)']::geometry[], ARRAY['POINT(1 2)']::geography[]),
 (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (3, 'POINT EMPTY', 'SRID=4326;POINT EMPTY', 'SRID=3857;POLYGON EMPTY', 'POINT Z EMPTY', 'POINT EMPTY', 'POINT EMPTY', '{}', '{}'),
 (4, 'GEOMETRYCOLLECTION(POINT(2 3),LINESTRING(2 3,3 4))', NULL, NULL, NULL, 'LINESTRING(0 0,1 1)', NULL, ARRAY[NULL,'POINT(1 2)']::geometry[], ARRAY[NULL]::geography[]),
 (5, 'SRID=4326;CIRCULARSTRING(0 0,1 1,1 0)', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (6, 'POINT ZM (1 2 3 4)', NULL, NULL, NULL, 'SRID=4267;POINT(1 2)', NULL, NULL, NULL);
INSERT INTO defaults (id) VALUES (1);
INSERT INTO odd VALUES (1, 'BOX(0 0,1 1)', 'BOX3D(0 0 0,1 1 1)', 'x');
INSERT INTO dom VALUES (1, 'SRID=4326;POINT(1 2)', 'SRID=4326;POINT(1 2)'), (2, NULL, 'SRID=4326;POINT(3 4)');
INSERT INTO nogeo VALUES (1, 'POINT(1 2)', 'a');
INSERT INTO keyed VALUES ('SRID=4326;POINT(1 2)', 'a');
INSERT INTO wide SELECT 1, g, g, ARRAY[g], 'a' FROM (SELECT ST_MakeLine(array_agg(ST_MakePoint(i, -i) ORDER BY i)) g FROM generate_series(1, 300) i) s;
INSERT INTO full_rows VALUES ('SRID=4326;POINT(1 2)', 'POINT(1 2)', 'a'), (NULL, 'POINT(3 4)', 'b');
