//! A schema registry for the Avro cases: `MILLSTREAM_TEST_REGISTRY=URL` names one that runs (and is empty), else
//! Apicurio from Maven Central is started, with Confluent's API.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::json::Json;

const VERSION: &str = "2.6.13.Final";

/// A registry process, ended with the test program.
pub struct Registry {
    /// Confluent's API.
    pub url: String,
    child: Option<Child>,
    schemas: Mutex<Vec<(u32, Value)>>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{what}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(format!("{what} failed: {}", text.lines().last().unwrap_or("")))
}

/// The registry's jar, fetched once into Maven's repository and unpacked under `target`.
fn jar() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("registry");
    let jar = folder.join(format!("apicurio-registry-app-{VERSION}-runner.jar"));
    if folder.join(".complete").exists() {
        return Ok(jar);
    }
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let artifact = format!("io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
    let fetch = || {
        run(
            Command::new("mvn")
                .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"])
                .arg(format!("-Dartifact={artifact}"))
                .arg(format!("-DoutputDirectory={}", folder.display())),
            "fetching the schema registry with Maven",
        )
    };
    // 142 MB: what breaks off goes on where it stopped
    fetch().or_else(|_| fetch()).or_else(|_| fetch())?;
    let archive = folder.join(format!("apicurio-registry-app-{VERSION}-all.tar.gz"));
    run(
        Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(&folder),
        "unpacking the schema registry",
    )?;
    let _ = std::fs::remove_file(archive);
    std::fs::write(folder.join(".complete"), "").map_err(|e| e.to_string())?;
    Ok(jar)
}

impl Registry {
    pub fn start() -> Result<Self, String> {
        if let Ok(url) = std::env::var("MILLSTREAM_TEST_REGISTRY") {
            return Ok(Self { url, child: None, schemas: Mutex::default() });
        }
        let jar = jar()?;
        let port = millstream::demo::postgres::free_port().map_err(|e| e.screen())?;
        let child = Command::new("java")
            .args([
                "-Xmx300m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dquarkus.http.host=127.0.0.1",
            ])
            .arg(format!("-Dquarkus.http.port={port}"))
            .arg("-jar")
            .arg(jar)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("starting the schema registry: {e}"))?;
        let url = format!("http://127.0.0.1:{port}/apis/ccompat/v7");
        let registry = Self { url, child: Some(child), schemas: Mutex::default() };
        let begun = Instant::now();
        while registry.get("/subjects").is_err() {
            if begun.elapsed() > Duration::from_secs(120) {
                return Err("the schema registry does not come up".into());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(registry)
    }

    /// The answer to a request, as JSON.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let output = Command::new("curl")
            .args(["-sf", "--max-time", "10"])
            .arg(format!("{}{path}", self.url))
            .output()
            .map_err(|e| format!("curl: {e}"))?;
        if !output.status.success() {
            return Err(format!("the schema registry does not answer {path}"));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| format!("{path}: {e}"))
    }

    fn schema(&self, id: u32) -> Result<Value, String> {
        if let Some((_, schema)) = self.schemas.lock().unwrap().iter().find(|(known, _)| *known == id) {
            return Ok(schema.clone());
        }
        let answer = self.get(&format!("/schemas/ids/{id}"))?;
        let text = answer.get("schema").and_then(Value::as_str).ok_or("the registry gave no schema")?;
        let schema: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        self.schemas.lock().unwrap().push((id, schema.clone()));
        Ok(schema)
    }

    /// All versions of a subject, in order.
    pub fn versions(&self, subject: &str) -> Result<Vec<Json>, String> {
        let versions = self.get(&format!("/subjects/{subject}/versions"))?;
        let mut out = Vec::new();
        for version in versions.as_array().into_iter().flatten() {
            let answer = self.get(&format!("/subjects/{subject}/versions/{version}"))?;
            let text = answer.get("schema").and_then(Value::as_str).ok_or("the registry gave no schema")?;
            out.push(Json::parse(text)?);
        }
        Ok(out)
    }

    /// `{"schema", "payload"}` of a value in Confluent's wire format, as the expected files hold it.
    pub fn decode(&self, bytes: &[u8]) -> Result<Json, String> {
        let [0, a, b, c, d, body @ ..] = bytes else { return Err("not Confluent's wire format".into()) };
        let schema = self.schema(u32::from_be_bytes([*a, *b, *c, *d]))?;
        let mut reader = Reader { rest: body, named: Vec::new() };
        reader.learn(&schema, "");
        let payload = reader.value(&schema, "")?;
        if !reader.rest.is_empty() {
            return Err(format!("{} bytes left over", reader.rest.len()));
        }
        Ok(Json::Object(vec![
            ("schema".into(), Json::parse(&schema.to_string())?),
            ("payload".into(), payload),
        ]))
    }
}

/// Reads Avro bodies by their schema's JSON; independent of the writer under test.
struct Reader<'b> {
    rest: &'b [u8],
    named: Vec<(String, Value)>,
}

fn full_name(schema: &Value, namespace: &str) -> (String, String) {
    let name = schema.get("name").and_then(Value::as_str).unwrap_or("");
    let namespace = schema.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    (format!("{namespace}.{name}"), namespace.to_owned())
}

impl Reader<'_> {
    /// Collects the named types.
    fn learn(&mut self, schema: &Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|b| self.learn(b, namespace)),
            Value::Object(map) => {
                let mut inner = namespace.to_owned();
                if map.get("type").and_then(Value::as_str) == Some("record") {
                    let (full, own) = full_name(schema, namespace);
                    self.named.push((full, schema.clone()));
                    inner = own;
                }
                for key in ["items", "values", "type"] {
                    if let Some(next) = map.get(key) {
                        self.learn(next, &inner);
                    }
                }
                for field in map.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    self.learn(field.get("type").unwrap_or(&Value::Null), &inner);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or("the body is too short")?;
        self.rest = rest;
        Ok(head)
    }

    fn long(&mut self) -> Result<i64, String> {
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let byte = self.take(1)?[0];
            n |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed());
            }
            shift += 7;
        }
    }

    fn size(&mut self) -> Result<usize, String> {
        usize::try_from(self.long()?).map_err(|_| "a negative length".to_owned())
    }

    fn float(n: f64) -> Json {
        if n.is_nan() {
            Json::text("nan")
        } else if n.is_infinite() {
            Json::text(if n > 0.0 { "inf" } else { "-inf" })
        } else {
            Json::Number(format!("{n:?}"))
        }
    }

    fn value(&mut self, schema: &Value, namespace: &str) -> Result<Json, String> {
        match schema {
            Value::Array(branches) => {
                let at = self.size()?;
                let branch = branches.get(at).ok_or("no such branch")?.clone();
                self.value(&branch, namespace)
            }
            Value::String(name) => match name.as_str() {
                "null" => Ok(Json::Null),
                "boolean" => Ok(Json::Bool(self.take(1)?[0] == 1)),
                "int" | "long" => Ok(Json::Number(self.long()?.to_string())),
                "float" => {
                    let bytes: [u8; 4] = self.take(4)?.try_into().unwrap();
                    Ok(Self::float(f64::from(f32::from_le_bytes(bytes))))
                }
                "double" => {
                    let bytes: [u8; 8] = self.take(8)?.try_into().unwrap();
                    Ok(Self::float(f64::from_le_bytes(bytes)))
                }
                "string" => {
                    let n = self.size()?;
                    let text = String::from_utf8(self.take(n)?.to_vec()).map_err(|e| e.to_string())?;
                    Ok(Json::Text(text))
                }
                "bytes" => {
                    use base64::Engine as _;
                    let n = self.size()?;
                    Ok(Json::Text(base64::engine::general_purpose::STANDARD.encode(self.take(n)?)))
                }
                name => {
                    let full =
                        if name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") };
                    let found =
                        self.named.iter().find(|(n, _)| *n == full).ok_or(format!("no type {full}"))?;
                    let found = found.1.clone();
                    self.value(&found, namespace)
                }
            },
            Value::Object(map) => match map.get("type") {
                Some(Value::String(kind)) if kind == "record" => {
                    let (_, inner) = full_name(schema, namespace);
                    let mut fields = Vec::new();
                    for field in map.get("fields").and_then(Value::as_array).into_iter().flatten() {
                        let name = field.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
                        let v = self.value(field.get("type").unwrap_or(&Value::Null), &inner)?;
                        fields.push((name, v));
                    }
                    Ok(Json::Object(fields))
                }
                Some(Value::String(kind)) if kind == "array" => {
                    let mut items = Vec::new();
                    loop {
                        let n = self.size()?;
                        if n == 0 {
                            return Ok(Json::Array(items));
                        }
                        for _ in 0..n {
                            items.push(self.value(map.get("items").unwrap_or(&Value::Null), namespace)?);
                        }
                    }
                }
                Some(Value::String(kind)) if kind == "map" => {
                    let mut pairs = Vec::new();
                    loop {
                        let n = self.size()?;
                        if n == 0 {
                            return Ok(Json::Object(pairs));
                        }
                        for _ in 0..n {
                            let len = self.size()?;
                            let key = String::from_utf8_lossy(self.take(len)?).into_owned();
                            pairs.push((
                                key,
                                self.value(map.get("values").unwrap_or(&Value::Null), namespace)?,
                            ));
                        }
                    }
                }
                Some(inner) => self.value(&inner.clone(), namespace),
                None => Err("a schema without type".into()),
            },
            _ => Err("not a schema".into()),
        }
    }
}
