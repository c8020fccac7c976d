BEGIN;
INSERT INTO app.dbz_signal VALUES ('a1','execute-snapshot','{"data-collections": ["app.items", "app.more"]}');
INSERT INTO app.dbz_signal VALUES ('a2','pause-snapshot','{"type": "incremental"}');
COMMIT;
-- @idle
INSERT INTO app.dbz_signal VALUES ('a3','resume-snapshot','{"type": "incremental"}');
-- @idle
BEGIN;
INSERT INTO app.dbz_signal VALUES ('b1','execute-snapshot','{"data-collections": ["app.items", "app.more"]}');
INSERT INTO app.dbz_signal VALUES ('b2','stop-snapshot','{"type": "incremental", "data-collections": ["app.items"]}');
COMMIT;
-- @idle
BEGIN;
INSERT INTO app.dbz_signal VALUES ('c1','execute-snapshot','{"data-collections": ["app.items", "app.more"]}');
INSERT INTO app.dbz_signal VALUES ('c2','stop-snapshot','{"type": "incremental"}');
COMMIT;
-- @idle
INSERT INTO app.dbz_signal VALUES ('d1','pause-snapshot','{}');
INSERT INTO app.dbz_signal VALUES ('d2','resume-snapshot','{}');
INSERT INTO app.dbz_signal VALUES ('d3','stop-snapshot','{}');
-- @idle
