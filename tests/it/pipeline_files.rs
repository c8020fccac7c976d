//! The files that `millstream run` makes its pipelines of.

use crate::support::place::{ORDERS, Place, QUERY, TOTALS, create};

/// One broken file of several: the others run, it is FAILED where the user looks, and it starts once it is mended.
#[test]
fn a_file_that_does_not_compile_keeps_nothing_from_running() {
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    let whole =
        format!("SET 'pipeline.name' = 'second';\n{ORDERS}\n{TOTALS}\n{QUERY}").replace("totals", "other");
    place.file("b.sql", &whole.replace("SUM(v)", "SUM(w)"));
    place.file("c.sql", "CREATE TABLE");
    let settings = format!(
        "connectors = []\npipelines = [\"*.sql\"]\ndata = \"{}\"\n[server]\nbind = \"127.0.0.1:0\"\n",
        place.data().display()
    );
    place.file("millstream.toml", &settings);
    let _service = place.spawn(&["run", "-c", "millstream.toml"]);
    place.wait("p", "RUNNING", 10);
    let list = place.ok(&["pipelines", "list"]);
    let failed = |name: &str| list.lines().any(|line| line.starts_with(name) && line.contains("FAILED"));
    assert!(failed("second") && failed("c "), "{list}");
    let status = place.ok(&["pipelines", "status", "second"]);
    assert!(status.contains("b.sql:4:") && status.contains("'w'"), "{status}");

    assert!(place.refused(&["pipelines", "start", "second"]).contains("b.sql:4:"));
    place.file("b.sql", &whole);
    place.ok(&["pipelines", "start", "second"]);
    place.wait("second", "RUNNING", 10);
    assert_eq!(place.newest("other").len(), 3);
    assert!(place.ok(&["pipelines", "stop", "p"]).contains("STOPPED"));
}
