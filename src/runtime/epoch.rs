//! The epoch protocol's decisions, without I/O.
//!
//! Per epoch: (1) one batch makes operators' state, input offsets, epoch numbers and each sink's output durable;
//! (2) every sink writes its output and moves its fence from `n - 1` to `n` in one transaction of its target; (3)
//! the next epoch may be committed when all sinks have done so. Sinks without output in an epoch take no part
//! in it: each sink counts its own epochs.
//!
//! So after a crash a fence is at the state's number, or one below. Anything else means that state and target do
//! not belong together, and nothing may be written. A random token, renewed at every start in state first and
//! then in the fences, finds copies: the fence knows only the token of the process that started last.

use crate::sink::Fence;
use crate::state::{Head, OpenEpoch};

/// What is to be done for a sink when a pipeline starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing was ever written: make the fence at 0.
    Create,
    /// The target holds what the state says.
    Continue,
    /// The target lacks the last epoch: write the outbox again, then go on.
    Replay,
    /// The pipeline starts anew on a target that it, or another of its name, wrote before: set the fence to 0.
    TakeOver,
    /// As [`Self::TakeOver`], of a state that was restored with an epoch that no target holds: set the fence to 0, then
    /// write the outbox as epoch 1.
    TakeOverAndReplay,
}

/// Why a target may not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The fence is of a process that this state does not know: the state is a copy or out of date, or another
    /// pipeline of this name writes the target.
    OtherWriter,
    /// The target is ahead: the state is an old one.
    StateBehind {
        /// Epoch of the fence.
        target: u64,
        /// Epoch of the state.
        state: u64,
    },
    /// The state is ahead by more than one epoch: the target is an old one (a restored backup).
    TargetBehind {
        /// Epoch of the fence.
        target: u64,
        /// Epoch of the state.
        state: u64,
    },
    /// The fence has gone, with the rows that it stood for.
    FenceMissing {
        /// Epoch of the state.
        state: u64,
    },
}

impl Refusal {
    /// One sentence for the error's cause.
    pub fn cause(&self) -> String {
        match self {
            Self::OtherWriter => {
                "the target was last written by another process: this state directory is a copy or \
                                  out of date, or another pipeline of the same name writes there"
                    .into()
            }
            Self::StateBehind { target, state } => format!(
                "the target holds epoch {target}, the state only epoch {state}: the state directory is an old one"
            ),
            Self::TargetBehind { target, state } => format!(
                "the state is at epoch {state}, the target only at epoch {target}: the target is an old one, a \
                 restored backup perhaps"
            ),
            Self::FenceMissing { state } => format!(
                "the state is at epoch {state}, but the target has no record of this pipeline: it was made anew"
            ),
        }
    }
}

/// Decides what to do for one sink.
///
/// # Errors
/// Where the target may not be written.
pub fn recover(head: &Head, sink: &str, fence: Option<&Fence>) -> Result<Recovery, Refusal> {
    let state = head.sinks.get(sink).copied().unwrap_or(0);
    // A savepoint of a pipeline that died; it may not have known yet that its target held the last epoch.
    let restored = head.takeover && state == 1;
    let Some(fence) = fence else {
        return match state {
            0 => Ok(Recovery::Create),
            _ if restored => Ok(Recovery::TakeOverAndReplay),
            _ => Err(Refusal::FenceMissing { state }),
        };
    };
    // A sink that was not open in the last runs (a dead-letter topic) has the token of the last one that it was open in.
    let last = head.tokens.get(sink);
    if !head.writers.contains(&fence.writer) && last != Some(&fence.writer) {
        return match state {
            0 if head.takeover => Ok(Recovery::TakeOver),
            _ if restored && head.open.get(sink).is_some_and(|open| holds(fence, open)) => {
                Ok(Recovery::TakeOver)
            }
            _ if restored => Ok(Recovery::TakeOverAndReplay),
            _ => Err(Refusal::OtherWriter),
        };
    }
    let target = fence.epoch;
    if target == state {
        Ok(Recovery::Continue)
    } else if target > state {
        Err(Refusal::StateBehind { target, state })
    } else if target + 1 == state {
        Ok(Recovery::Replay)
    } else {
        Err(Refusal::TargetBehind { target, state })
    }
}

/// Characters of a token that all writers of one life of a state have in common.
const LIFE: usize = 16;

/// A new writer's token. A life of the state begins where nothing or a savepoint is started from; its writers have the
/// first half of their tokens in common, so that a fence tells whose epochs it counts.
pub fn token(head: &Head) -> String {
    let new = uuid::Uuid::new_v4().simple().to_string();
    let life = head.writers.last().and_then(|last| last.get(..LIFE));
    format!("{}{}", life.unwrap_or(new.get(..LIFE).unwrap_or_default()), new.get(LIFE..).unwrap_or_default())
}

/// Whether a fence is of the life that an epoch was committed in, and has come to it.
fn holds(fence: &Fence, open: &OpenEpoch) -> bool {
    let life = fence.writer.get(..LIFE);
    fence.epoch >= open.epoch && life.is_some() && open.writers.iter().any(|w| w.get(..LIFE) == life)
}

/// The fence that a start sets, at the epoch where the old one is.
pub fn renewed(recovery: &Recovery, fence: Option<&Fence>, writer: &str) -> Fence {
    let epoch = match recovery {
        Recovery::Create | Recovery::TakeOver | Recovery::TakeOverAndReplay => 0,
        Recovery::Continue | Recovery::Replay => fence.map_or(0, |f| f.epoch),
    };
    Fence { epoch, writer: writer.to_owned() }
}

/// What a fence says after a write whose outcome is unknown (the connection broke).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target holds the epoch.
    Written,
    /// It does not: write it again.
    Missing,
    /// Somebody else writes the target now.
    Fenced,
}

/// Decides whether `epoch` of `writer` is in the target.
pub fn outcome(fence: Option<&Fence>, epoch: u64, writer: &str) -> Outcome {
    match fence {
        Some(f) if f.writer == writer && f.epoch == epoch => Outcome::Written,
        Some(f) if f.writer == writer && f.epoch + 1 == epoch => Outcome::Missing,
        _ => Outcome::Fenced,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(writers: &[&str], epoch: u64, takeover: bool) -> Head {
        Head {
            writers: writers.iter().map(|w| (*w).to_owned()).collect(),
            sinks: [("s".to_owned(), epoch)].into(),
            takeover,
            ..Head::default()
        }
    }

    fn fence(epoch: u64, writer: &str) -> Option<Fence> {
        Some(Fence { epoch, writer: writer.into() })
    }

    #[test]
    fn recovery_table() {
        let cases = [
            // state's tokens, state's epoch, takeover, fence, decision
            (&["a"][..], 0, false, None, Ok(Recovery::Create)),
            (&["a"], 0, false, fence(0, "a"), Ok(Recovery::Continue)),
            (&["a"], 5, false, fence(5, "a"), Ok(Recovery::Continue)),
            (&["a"], 5, false, fence(4, "a"), Ok(Recovery::Replay)),
            (&["a"], 1, false, fence(0, "a"), Ok(Recovery::Replay)),
            // A start that died between renewing the token in the state and in this fence, and after it.
            (&["a", "b"], 5, false, fence(4, "a"), Ok(Recovery::Replay)),
            (&["a", "b"], 5, false, fence(5, "b"), Ok(Recovery::Continue)),
            (&["a"], 5, false, fence(5, "b"), Err(Refusal::OtherWriter)),
            (&["a"], 5, false, fence(4, "b"), Err(Refusal::OtherWriter)),
            (&["a"], 5, false, fence(6, "a"), Err(Refusal::StateBehind { target: 6, state: 5 })),
            (&["a"], 5, false, fence(3, "a"), Err(Refusal::TargetBehind { target: 3, state: 5 })),
            (&["a"], 5, false, None, Err(Refusal::FenceMissing { state: 5 })),
            // A new state on a written target: refused unless asked for.
            (&["n"], 0, false, fence(9, "a"), Err(Refusal::OtherWriter)),
            (&["n"], 0, true, fence(9, "a"), Ok(Recovery::TakeOver)),
            (&["n"], 0, true, None, Ok(Recovery::Create)),
            // Restored with an epoch that no target holds, and the start after one that died when it had claimed.
            (&["n"], 1, true, fence(9, "a"), Ok(Recovery::TakeOverAndReplay)),
            (&["n"], 1, true, None, Ok(Recovery::TakeOverAndReplay)),
            (&["n", "m"], 1, true, fence(0, "n"), Ok(Recovery::Replay)),
            (&["n"], 2, true, fence(9, "a"), Err(Refusal::OtherWriter)),
        ];
        for (writers, epoch, takeover, fence, wanted) in cases {
            let got = recover(&head(writers, epoch, takeover), "s", fence.as_ref());
            assert_eq!(got, wanted, "{writers:?} {epoch} {takeover} {fence:?}");
        }
    }

    #[test]
    fn a_restored_epoch_is_written_where_its_life_has_not_come_to_it() {
        let (a, later, other) = ("aaaaaaaaaaaaaaaa1", "aaaaaaaaaaaaaaaa2", "bbbbbbbbbbbbbbbb1");
        let open = OpenEpoch { epoch: 5, writers: vec![a.into()], life: None };
        let head = Head { open: [("s".to_owned(), open)].into(), ..head(&["n"], 1, true) };
        for (fence, wanted) in [
            (fence(5, a), Recovery::TakeOver),
            (fence(4, a), Recovery::TakeOverAndReplay),
            // The pipeline went on when the savepoint had been taken.
            (fence(9, later), Recovery::TakeOver),
            // It was started anew since: its numbers say nothing.
            (fence(9, other), Recovery::TakeOverAndReplay),
            (None, Recovery::TakeOverAndReplay),
        ] {
            assert_eq!(recover(&head, "s", fence.as_ref()), Ok(wanted), "{fence:?}");
        }
    }

    #[test]
    fn writers_of_one_life_are_known_by_their_tokens() {
        let first = token(&Head::default());
        let second = token(&Head { writers: vec![first.clone()], ..Head::default() });
        assert_eq!((first.len(), second.len()), (32, 32));
        assert_eq!(first[..LIFE], second[..LIFE]);
        assert_ne!(first, second);
        assert_ne!(first[..LIFE], token(&Head::default())[..LIFE]);
    }

    #[test]
    fn outcome_of_a_write_that_broke() {
        assert_eq!(outcome(fence(4, "a").as_ref(), 4, "a"), Outcome::Written);
        assert_eq!(outcome(fence(3, "a").as_ref(), 4, "a"), Outcome::Missing);
        assert_eq!(outcome(fence(3, "b").as_ref(), 4, "a"), Outcome::Fenced);
        assert_eq!(outcome(fence(9, "a").as_ref(), 4, "a"), Outcome::Fenced);
        assert_eq!(outcome(None, 4, "a"), Outcome::Fenced);
    }

    /// A process as the driver runs it, one durable step at a time.
    #[derive(Clone, Debug)]
    struct World {
        head: Head,
        /// Output of the state's last epoch per sink.
        outbox: [u64; 2],
        fences: [Option<Fence>; 2],
        /// What the targets hold: one number an epoch.
        rows: [Vec<u64>; 2],
    }

    const SINKS: [&str; 2] = ["s0", "s1"];

    /// Runs a process until it has made `steps` durable steps (then it dies); says what it refused.
    fn run(world: &mut World, token: &str, mut steps: u32, until: u64) -> Result<(), Refusal> {
        macro_rules! step {
            () => {
                if steps == 0 {
                    return Ok(());
                }
                steps -= 1;
            };
        }
        let mut todo = Vec::new();
        for (i, sink) in SINKS.iter().enumerate() {
            todo.push((i, recover(&world.head, sink, world.fences[i].as_ref())?));
        }
        step!();
        world.head.writers.push(token.into());
        for (i, recovery) in &todo {
            step!();
            world.fences[*i] = Some(renewed(recovery, world.fences[*i].as_ref(), token));
        }
        for (i, recovery) in todo {
            if recovery == Recovery::Replay {
                step!();
                world.rows[i].push(world.outbox[i]);
                world.fences[i].as_mut().unwrap().epoch += 1;
            }
        }
        step!();
        world.head.writers = vec![token.into()];
        world.head.takeover = false;
        while world.head.epoch < until {
            step!();
            // State batch: odd epochs have output for both sinks, even ones for the first only.
            world.head.epoch += 1;
            let busy = if world.head.epoch % 2 == 1 { 2 } else { 1 };
            for (i, sink) in SINKS.iter().enumerate().take(busy) {
                *world.head.sinks.entry((*sink).into()).or_default() += 1;
                world.outbox[i] = world.head.epoch;
            }
            for i in 0..busy {
                step!();
                world.rows[i].push(world.outbox[i]);
                world.fences[i].as_mut().unwrap().epoch += 1;
            }
        }
        Ok(())
    }

    proptest! {
        /// Whatever steps the processes die at, every output reaches its target once and in order; and a copy of
        /// the state taken at any moment cannot write after the original has started again.
        #[test]
        fn every_epoch_is_written_once(deaths in proptest::collection::vec(0u32..12, 0..12), copy_at in 0usize..12) {
            let mut world = World {
                head: Head::default(),
                outbox: [0; 2],
                fences: [None, None],
                rows: [Vec::new(), Vec::new()],
            };
            let mut copy = None;
            for (n, steps) in deaths.iter().enumerate() {
                if n == copy_at {
                    copy = Some(world.head.clone());
                }
                prop_assert_eq!(run(&mut world, &format!("t{n}"), *steps, 6), Ok(()));
            }
            prop_assert_eq!(run(&mut world, "last", u32::MAX, 6), Ok(()));
            prop_assert_eq!(&world.rows[0], &[1, 2, 3, 4, 5, 6]);
            prop_assert_eq!(&world.rows[1], &[1, 3, 5]);
            if let Some(head) = copy {
                let mut stale = World { head, ..world.clone() };
                let refused = run(&mut stale, "copy", u32::MAX, 9);
                prop_assert_eq!(refused, Err(Refusal::OtherWriter));
            }
        }
    }
}
