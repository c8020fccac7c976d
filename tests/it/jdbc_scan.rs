//! A table of a database as an input: what is read of it when the process dies in its midst, and the table changes
//! before it is read on.

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};

use crate::support::place::Place;

struct World {
    server: TemporaryPostgres,
    place: Place,
    file: String,
}

const ROWS: usize = 8000;

impl World {
    /// 8 MB of rows with the numbers from 500 on, and a pipeline that appends them to a table.
    fn new(key: &str) -> Self {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let make = format!(
            "CREATE TABLE stock (kind char(4) NOT NULL, id int NOT NULL, pad text {key});
             INSERT INTO stock SELECT 'k' || n / 3000, n, repeat('x', 1000) FROM generate_series(500, 8499) n;
             CREATE TABLE copies (id int, n int)"
        );
        server.psql("postgres", &make).unwrap();
        let table = |name: &str, columns: &str| {
            format!(
                "CREATE TABLE {name} ({columns}) WITH ('connector'='jdbc', 'table-name'='{name}', \
                 'url'='jdbc:postgresql://127.0.0.1:{}/postgres', 'username'='postgres');",
                server.port()
            )
        };
        let place = Place::new();
        // What is no column here is part of the key all the same.
        let sql = format!(
            "{}{} INSERT INTO copies SELECT id, CHAR_LENGTH(pad) FROM stock;",
            table("stock", "id INT, pad STRING"),
            table("copies", "id INT, n INT")
        );
        let file = place.file("p.sql", &sql).display().to_string();
        Self { server, place, file }
    }

    /// Runs it until it dies with a part of the rows in the state.
    fn dies(&self) {
        let mut command = self.place.command(&["sql", "-f", &self.file]);
        let died = command.env("MILLSTREAM_FAILPOINTS", "pipeline.after_state=abort").output().unwrap();
        assert_eq!(died.status.code(), None, "{}", String::from_utf8_lossy(&died.stderr));
        let status = self.place.json(&["pipelines", "status", "p"]);
        let read = status["positions"].as_object().unwrap().values().next().unwrap().as_u64().unwrap();
        assert!(100 < read && read < 7000, "{status}");
    }

    /// Rows, different ones, the least and the greatest.
    fn copies(&self) -> String {
        let sql = "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM copies";
        self.server.psql("postgres", sql).unwrap().trim().to_owned()
    }
}

#[test]
fn a_table_is_read_on_behind_its_last_key() {
    let world = World::new(", PRIMARY KEY (kind, id)");
    world.dies();
    // More rows before the place than there were.
    let change = "DELETE FROM stock WHERE id < 550;
                  INSERT INTO stock SELECT 'k', n, '' FROM generate_series(1, 100) n";
    world.server.psql("postgres", change).unwrap();
    world.place.ok(&["sql", "-f", &world.file]);
    assert_eq!(world.copies(), format!("{ROWS}|{ROWS}|500|8499"));

    // Behind its end there is nothing, and then something.
    world.place.ok(&["sql", "-f", &world.file]);
    assert_eq!(world.copies(), format!("{ROWS}|{ROWS}|500|8499"));
    world.server.psql("postgres", "INSERT INTO stock VALUES ('z', 1, '')").unwrap();
    world.place.ok(&["sql", "-f", &world.file]);
    assert_eq!(world.copies(), format!("{0}|{0}|1|8499", ROWS + 1));
}

#[test]
fn a_table_without_a_key_is_read_once_or_said_not_to_be() {
    let world = World::new("");
    world.dies();
    let screen = world.place.refused(&["sql", "-f", &world.file]);
    for word in ["table stock", "primary key", "pipelines reset"] {
        assert!(screen.contains(word), "{screen}");
    }
    world.server.psql("postgres", "TRUNCATE copies").unwrap();
    world.place.ok(&["pipelines", "reset", "p"]);
    world.place.ok(&["sql", "-f", &world.file]);
    assert_eq!(world.copies(), format!("{ROWS}|{ROWS}|500|8499"));
    world.server.psql("postgres", "INSERT INTO stock VALUES ('z', 9000, '')").unwrap();
    world.place.ok(&["sql", "-f", &world.file]);
    assert_eq!(world.copies(), format!("{ROWS}|{ROWS}|500|8499"));
}

/// Values of type char(n) are found without their spaces, and keep them as events have them.
#[test]
fn rows_are_looked_up_by_char_columns() {
    let world = World::new(", PRIMARY KEY (id)");
    world
        .server
        .psql(
            "postgres",
            "CREATE TABLE kinds (kind char(4) PRIMARY KEY, n int, flags bit(3) UNIQUE);
             INSERT INTO kinds VALUES ('k0', 10, B'101'), ('k1', 11, B'110'), ('k2', 12, B'111')",
        )
        .unwrap();
    let jdbc = |name: &str, columns: &str| {
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector'='jdbc', 'table-name'='{name}', \
             'url'='jdbc:postgresql://127.0.0.1:{}/postgres', 'username'='postgres');",
            world.server.port()
        )
    };
    let sql = format!(
        "{}{}{} INSERT INTO copies SELECT k.n, CHAR_LENGTH(k.kind) FROM stock AS s
         JOIN kinds FOR SYSTEM_TIME AS OF s.p AS k ON s.kind = k.kind AND k.flags = '110';",
        jdbc("stock", "id INT, kind STRING, p AS PROCTIME()"),
        jdbc("kinds", "kind STRING, n INT, flags STRING"),
        jdbc("copies", "id INT, n INT"),
    );
    let file = world.place.file("l.sql", &sql).display().to_string();
    world.place.ok(&["sql", "-f", &file]);
    let found = world.server.psql("postgres", "SELECT id, n, count(*) FROM copies GROUP BY 1, 2").unwrap();
    assert_eq!(found.trim(), "11|4|3000");
}
