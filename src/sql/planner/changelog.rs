//! Who needs `-U`: settles the changelog mode of every edge and writes the engine's plan.
//!
//! As in Flink, an operator is asked by its user for updates with their old rows (`-U` and `+U`) or for the new rows
//! alone; sources give what is asked, by leaving `-U` away or by keeping rows in state.

use std::collections::HashMap;

use crate::engine::plan::{ChangelogMode, Node, NodeId, NormalizeMode, Op, Plan};
use crate::engine::types::Field;
use crate::sql::connectors::SourceMode;

use super::phys::Phys;
use super::physical::used;

/// Writes nodes into a plan; equal sub-plans become one.
#[derive(Debug)]
pub struct Emitter {
    /// The plan so far.
    pub plan: Plan,
    /// Operators by the text that their names are made of; those of one text may differ in options.
    seen: HashMap<String, Vec<NodeId>>,
    strict: bool,
    duplicates: bool,
}

impl Emitter {
    /// An empty plan.
    pub fn new() -> Self {
        Self { plan: Plan::default(), seen: HashMap::new(), strict: false, duplicates: false }
    }

    /// Sets what the options say from here on: `millstream.compat.strict`, `table.exec.source.cdc-events-duplicate`.
    pub fn options(&mut self, strict: bool, duplicates: bool) {
        self.strict = strict;
        self.duplicates = duplicates;
    }

    /// Whether the operator can do without old rows of updates.
    pub fn can_omit(&self, phys: &Phys) -> bool {
        if !phys.update {
            return true;
        }
        let input = |i: usize| phys.inputs.get(i).is_none_or(|p| self.can_omit(p));
        match &phys.op {
            Op::Source(_) | Op::Aggregate(_) | Op::Rank(_) | Op::Deduplicate(_) | Op::Normalize { .. } => {
                true
            }
            Op::Filter(predicate) => {
                let columns: Vec<usize> = used(predicate).into_iter().collect();
                // rows of one key all pass or none
                let by_key = phys
                    .inputs
                    .first()
                    .is_some_and(|p| p.upsert.iter().any(|key| columns.iter().all(|c| key.contains(c))));
                by_key && input(0)
            }
            Op::Project(_) | Op::WatermarkAssigner { .. } | Op::LookupJoin(_) | Op::NotNull { .. } => {
                input(0)
            }
            Op::Union => phys.inputs.iter().all(|p| self.can_omit(p)),
            Op::Join(join) => {
                join.residual.is_none()
                    && phys.inputs.iter().enumerate().all(|(side, p)| {
                        let on: Vec<usize> =
                            join.on.iter().map(|(l, r)| if side == 0 { *l } else { *r }).collect();
                        // a row that could come under another join key must say where it was
                        let stays = !super::keys::distributed(&p.upsert, &on).is_empty();
                        !p.update || stays && self.can_omit(p)
                    })
            }
            _ => false,
        }
    }

    /// Writes the operator and all below it; `old` says whether old rows of updates are wanted.
    pub fn emit(&mut self, phys: &Phys, old: bool) -> NodeId {
        let old = old && phys.update;
        if let Op::Source(_) = &phys.op {
            return self.source(phys, old);
        }
        let mut op = phys.op.clone();
        match &mut op {
            Op::Aggregate(aggregate) => aggregate.emit_update_before = old,
            Op::Rank(rank) => rank.emit_update_before = old,
            Op::Deduplicate(dedup) => dedup.emit_update_before = old,
            _ => {}
        }
        // makers of updates need old rows below; the others pass the wish on
        let passes = matches!(
            op,
            Op::Filter(_)
                | Op::Project(_)
                | Op::WatermarkAssigner { .. }
                | Op::LookupJoin(_)
                | Op::NotNull { .. }
                | Op::Union
                | Op::Join(_)
        );
        let temporal = matches!(op, Op::TemporalJoin(_));
        let inputs: Vec<NodeId> = phys
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| {
                let wanted = if passes && !old && phys.update {
                    !self.can_omit(input)
                } else {
                    // a versioned table is read by key: new rows are enough
                    !(temporal && i == 1 && self.can_omit(input))
                };
                self.emit(input, wanted)
            })
            .collect();
        let mode = ChangelogMode { update_before: old, update_after: phys.update, delete: phys.delete };
        self.node(op, inputs, &phys.cols, mode)
    }

    fn source(&mut self, phys: &Phys, old: bool) -> NodeId {
        let full = |old: bool| ChangelogMode { update_before: old, update_after: true, delete: true };
        let key = phys.unique.first().cloned();
        match phys.source {
            Some(SourceMode::Retract) => {
                let scan = self.node(phys.op.clone(), Vec::new(), &phys.cols, full(true));
                let Some(key) = key else { return scan };
                if self.duplicates {
                    let new = self.node(Op::DropUpdateBefore, vec![scan], &phys.cols, full(false));
                    let all = self.node(
                        Op::Normalize { key, mode: NormalizeMode::Upsert },
                        vec![new],
                        &phys.cols,
                        full(true),
                    );
                    return if old {
                        all
                    } else {
                        self.node(Op::DropUpdateBefore, vec![all], &phys.cols, full(false))
                    };
                }
                if !old {
                    return self.node(Op::DropUpdateBefore, vec![scan], &phys.cols, full(false));
                }
                if self.strict {
                    return scan;
                }
                let compare = match &phys.op {
                    Op::Source(table) => table
                        .columns
                        .iter()
                        .enumerate()
                        .filter(|(_, c)| c.metadata.is_none())
                        .map(|(i, _)| i)
                        .collect(),
                    _ => Vec::new(),
                };
                self.node(
                    Op::Normalize { key, mode: NormalizeMode::Complete { compare } },
                    vec![scan],
                    &phys.cols,
                    full(true),
                )
            }
            Some(SourceMode::Upsert) => {
                let upserts = ChangelogMode { update_before: false, update_after: true, delete: true };
                let scan = self.node(phys.op.clone(), Vec::new(), &phys.cols, upserts);
                match key {
                    Some(key) if old => self.node(
                        Op::Normalize { key, mode: NormalizeMode::Upsert },
                        vec![scan],
                        &phys.cols,
                        full(true),
                    ),
                    _ => scan,
                }
            }
            _ => self.node(phys.op.clone(), Vec::new(), &phys.cols, ChangelogMode::default()),
        }
    }

    /// Writes one node, or finds the equal one that is there.
    pub fn node(
        &mut self,
        op: Op,
        inputs: Vec<NodeId>,
        cols: &[crate::sql::rel::Col],
        mode: ChangelogMode,
    ) -> NodeId {
        let schema: Vec<Field> =
            cols.iter().map(|c| Field { name: c.name.clone(), data_type: c.data_type.clone() }).collect();
        // sinks are never shared: each INSERT writes
        let shared = !matches!(op, Op::Sink(_));
        let names: Vec<&str> =
            inputs.iter().filter_map(|i| self.plan.nodes.get(*i)).map(|n| n.name.as_str()).collect();
        let types: Vec<String> = schema.iter().map(|f| f.data_type.to_string()).collect();
        let modes: String = [mode.update_before, mode.update_after, mode.delete]
            .map(|emitted| if emitted { '1' } else { '0' })
            .iter()
            .collect();
        // The name is what state is kept by: where a table's server is makes no other operator.
        let told = super::identity::text(&op.identity());
        let text = format!("{told}|{}|{}|{modes}", names.join(","), types.join(","));
        let mut name = format!("{}-{:016x}", kind(&op), fnv(text.as_bytes()));
        let node = Node { op, inputs, schema, changelog: mode, name: String::new() };
        let alike = self.seen.entry(text).or_default();
        // The text holds the types, and names of columns make no other operator.
        let same = |id: &&NodeId| {
            let other = self.plan.nodes.get(**id);
            other.is_some_and(|other| other.op == node.op && other.inputs == node.inputs)
        };
        if let Some(id) = alike.iter().find(same).filter(|_| shared) {
            return *id;
        }
        let id = self.plan.nodes.len();
        alike.push(id);
        if self.plan.nodes.iter().any(|node| node.name == name) {
            name = format!("{name}-{id}");
        }
        self.plan.nodes.push(Node { name, ..node });
        id
    }
}

impl Default for Emitter {
    fn default() -> Self {
        Self::new()
    }
}

/// FNV-1a, 64 bits: a hash that is the same in every build.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A short word for the operator, as node names begin.
pub fn kind(op: &Op) -> &'static str {
    match op {
        Op::Source(_) => "source",
        Op::Filter(_) => "filter",
        Op::Project(_) => "project",
        Op::Normalize { .. } => "normalize",
        Op::DropUpdateBefore => "drop-update-before",
        Op::WatermarkAssigner { .. } => "watermark",
        Op::Join(_) => "join",
        Op::Aggregate(_) => "aggregate",
        Op::Union => "union",
        Op::Materialize { .. } => "materialize",
        Op::NotNull { .. } => "not-null",
        Op::Values(_) => "values",
        Op::WindowTvf(_) => "window",
        Op::WindowAggregate(_) => "window-aggregate",
        Op::WindowJoin(_) => "window-join",
        Op::WindowRank(_) => "window-rank",
        Op::IntervalJoin(_) => "interval-join",
        Op::TemporalJoin(_) => "temporal-join",
        Op::LookupJoin(_) => "lookup-join",
        Op::Rank(_) => "rank",
        Op::Deduplicate(_) => "deduplicate",
        Op::TemporalSort { .. } => "sort",
        Op::Over(_) => "over",
        Op::SortedOver(_) => "sorted-over",
        Op::Expand(_) => "expand",
        Op::Unnest(_) => "unnest",
        Op::SetOp { .. } => "set-operation",
        Op::Sink(_) => "sink",
    }
}
