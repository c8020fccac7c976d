//! The table of plugins beside the connector: transforms, predicates and converters, and the options that each
//! of them defines for Kafka Connect.

use std::cmp::Ordering;
use std::sync::OnceLock;

use super::properties::PropertyType;

/// Version of Kafka Connect whose behaviour this is.
pub const KAFKA_VERSION: &str = "4.3.1";
/// Version of Debezium whose behaviour this is.
pub const DEBEZIUM_VERSION: &str = "3.6.3.Final";

/// Kind of a plugin, in the order in which Kafka Connect lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A single message transform.
    Transformation,
    /// A condition on a record.
    Predicate,
    /// Writes keys or values.
    Converter,
    /// Writes headers.
    HeaderConverter,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] =
        [Self::Transformation, Self::Predicate, Self::Converter, Self::HeaderConverter];

    /// As `GET /connector-plugins` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transformation => "transformation",
            Self::Predicate => "predicate",
            Self::Converter => "converter",
            Self::HeaderConverter => "header_converter",
        }
    }

    /// The Java interface, as messages name it.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Transformation => "Transformation",
            Self::Predicate => "Predicate",
            Self::Converter => "Converter",
            Self::HeaderConverter => "HeaderConverter",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Transformation => 't',
            Self::Predicate => 'p',
            Self::Converter => 'c',
            Self::HeaderConverter => 'h',
        }
    }
}

/// An option of a plugin.
#[derive(Clone, Debug)]
pub struct PluginOption {
    /// Name, without the prefix under which a connector's configuration holds it.
    pub name: &'static str,
    /// Type of the value.
    pub kind: PropertyType,
    /// Value where none is given; none also where one must be given.
    pub default: Option<&'static str>,
    /// Whether one must be given.
    pub required: bool,
    /// `HIGH`, `MEDIUM` or `LOW`.
    pub importance: &'static str,
    /// Its group within the plugin's options.
    pub group: Option<&'static str>,
    /// Place within the group, -1 for none.
    pub order: i32,
    /// `NONE`, `SHORT`, `MEDIUM` or `LONG`.
    pub width: &'static str,
    /// Rules for the value; see [`super::rules`].
    pub rules: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// A plugin.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Java class.
    pub class: &'static str,
    /// Version, as Kafka Connect shows it.
    pub version: &'static str,
    /// Its options, in the order of its definition.
    pub options: Vec<PluginOption>,
    kinds: &'static str,
}

impl Plugin {
    /// Whether it can be used as this.
    pub fn is(&self, kind: Kind) -> bool {
        self.kinds.contains(kind.letter())
    }

    /// The class without its packages.
    pub fn simple_name(&self) -> &'static str {
        self.class.rsplit('.').next().unwrap_or(self.class)
    }

    /// Its options as `ConfigDef` sorts them, with `extra` ones mixed in.
    pub fn sorted(&self, extra: &[PluginOption]) -> Vec<PluginOption> {
        let mut groups: Vec<&str> = Vec::new();
        for group in self.options.iter().filter_map(|o| o.group) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let mut options: Vec<PluginOption> = self.options.iter().chain(extra).cloned().collect();
        options.sort_by(|a, b| compare(a, b, &groups));
        options
    }
}

/// `ConfigDef.compare`: group, place in it, what has no default first, importance, name.
fn compare(a: &PluginOption, b: &PluginOption, groups: &[&str]) -> Ordering {
    let place = |o: &PluginOption| o.group.and_then(|g| groups.iter().position(|known| *known == g));
    let importance = |o: &PluginOption| match o.importance {
        "HIGH" => 0,
        "MEDIUM" => 1,
        _ => 2,
    };
    place(a)
        .cmp(&place(b))
        .then(a.order.cmp(&b.order))
        .then(b.required.cmp(&a.required))
        .then(importance(a).cmp(&importance(b)))
        .then(a.name.cmp(b.name))
}

fn option(fields: &[&'static str]) -> Option<PluginOption> {
    let [name, kind, default, importance, group, order, width, rules, doc] = fields else { return None };
    Some(PluginOption {
        name,
        kind: PropertyType::parse(kind)?,
        default: Some(*default).filter(|d| !matches!(*d, "-" | "!")),
        required: *default == "!",
        importance,
        group: Some(*group).filter(|g| *g != "-"),
        order: order.parse().ok()?,
        width,
        rules,
        doc,
    })
}

fn read(text: &'static str) -> Option<Vec<Plugin>> {
    let mut plugins: Vec<Plugin> = Vec::new();
    // The plugins that the options of the lines at hand belong to.
    let mut open = 0;
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["@", classes, kinds, product] => {
                let version = match *product {
                    "kafka" => KAFKA_VERSION,
                    "debezium" => DEBEZIUM_VERSION,
                    _ => "undefined",
                };
                open = plugins.len();
                for class in classes.split('|') {
                    plugins.push(Plugin { class, version, options: Vec::new(), kinds });
                }
            }
            fields => {
                let option = option(fields)?;
                for plugin in plugins.iter_mut().skip(open) {
                    plugin.options.push(option.clone());
                }
            }
        }
    }
    Some(plugins)
}

/// All plugins.
pub fn all() -> &'static [Plugin] {
    static TABLE: OnceLock<Vec<Plugin>> = OnceLock::new();
    TABLE.get_or_init(|| read(include_str!("plugins.tsv")).unwrap_or_default())
}

/// The plugin of this class: by its full name, its simple name, or that without the kind at its end, where only
/// one has it.
pub fn find(name: &str) -> Option<&'static Plugin> {
    if let Some(plugin) = all().iter().find(|p| p.class == name) {
        return Some(plugin);
    }
    let alias = |plugin: &&Plugin| {
        let simple = plugin.simple_name();
        // Connect knows no alias for nested classes.
        let ends = ["Converter", "HeaderConverter", "Transformation", "Predicate"];
        !simple.contains('$')
            && (simple == name || ends.iter().any(|end| simple.strip_suffix(end) == Some(name)))
    };
    let mut matching = all().iter().filter(alias);
    let first = matching.next()?;
    matching.next().is_none().then_some(first)
}

/// The classes within an abstract one, such as `Cast$Key` and `Cast$Value` of `Cast`.
pub fn nested(class: &str) -> Vec<&'static str> {
    all()
        .iter()
        .map(|p| p.class)
        .filter(|c| c.split_once('$').is_some_and(|(outer, _)| outer == class))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_whole() {
        let text = include_str!("plugins.tsv");
        assert!(read(text).is_some());
        let classes: usize =
            text.lines().filter_map(|l| l.strip_prefix("@\t")).map(|l| l.split('|').count()).sum();
        assert_eq!(all().len(), classes);
        for plugin in all() {
            assert!(Kind::ALL.iter().any(|kind| plugin.is(*kind)), "{}", plugin.class);
        }
    }

    #[test]
    fn aliases() {
        assert_eq!(find("RegexRouter").unwrap().class, "org.apache.kafka.connect.transforms.RegexRouter");
        assert_eq!(find("Json").unwrap().class, "org.apache.kafka.connect.json.JsonConverter");
        assert!(find("Cast$Key").is_none() && find("ByteArrayConverter").is_none());
        assert_eq!(nested("org.apache.kafka.connect.transforms.Cast").len(), 2);
    }

    #[test]
    fn options_are_sorted_as_kafka_sorts_them() {
        let names = |class: &str| {
            find(class).unwrap().sorted(&[]).iter().map(|o| o.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names("io.debezium.transforms.EnforceRecordSize"),
            "max.bytes compression.ratio min.field.size"
        );
        assert_eq!(
            names("org.apache.kafka.connect.json.JsonConverter"),
            "converter.type schemas.enable schemas.cache.size schema.content decimal.format replace.null.with.default"
        );
    }
}
