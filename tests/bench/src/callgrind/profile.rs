//! Reads a dump of callgrind ("Callgrind Format Specification" in valgrind's manual), and makes of it what somebody
//! needs who wants a server to execute less: instructions and calls of each function, and who allocates.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

/// Functions that give memory, whichever allocator is linked in, without their prefixes.
const ALLOCATING: [&str; 8] =
    ["malloc", "calloc", "zalloc", "realloc", "memalign", "aligned_alloc", "posix_memalign", "rallocx"];
/// What allocators put before these names, and behind them.
const PREFIXES: [&str; 3] = ["_rjem_", "je_", "mi_"];
const SUFFIX: &str = "_aligned";
/// Parts of names that stand between one who needs memory and the allocator, and of those that give it back.
const BETWEEN: [&str; 5] = ["__rdl_", "__rg_", "__rust_alloc", "__rust_realloc", "RawVec"];
const GIVING_BACK: [&str; 2] = ["dealloc", "shrink"];
/// In what tokio's event loop waits, from the outermost; the outer ones may be inlined in some builds.
const WAITING: [&str; 3] = [
    "tokio::runtime::scheduler::current_thread::Context::park",
    "tokio::runtime::scheduler::current_thread::Context::park_internal",
    "tokio::runtime::time::Driver::park_internal",
];
/// Lines of each list; functions of which the callers are listed, and how many of them.
const SHOWN: usize = 60;
const WITH_CALLERS: usize = 15;
const CALLERS: usize = 8;

/// What was executed between two moments.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    /// Instructions of the whole process.
    pub(crate) instructions: u64,
    /// Calls for memory, new or of another size.
    pub(crate) allocations: u64,
    functions: HashMap<String, Function>,
    /// By caller and callee.
    calls: HashMap<(String, String), Calls>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    count: u64,
    /// Instructions of the callee for this caller.
    cost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Function {
    /// Instructions of its own.
    own: u64,
    /// Instructions of what it calls.
    below: u64,
    /// How often it was called.
    calls: u64,
}

impl Profile {
    /// Reads a dump that has lines as positions and instructions as the only event.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut profile = Self::default();
        let mut names = Names::default();
        let (mut function, mut callee, mut calls) = (String::new(), String::new(), None);
        let mut total = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("fn=") {
                function = names.read(name)?;
            } else if let Some(name) = line.strip_prefix("cfn=") {
                callee = names.read(name)?;
            } else if let Some(rest) = line.strip_prefix("calls=") {
                calls = Some(number(rest.split(' ').next())?);
            } else if let Some(rest) = line.strip_prefix("totals:") {
                total = Some(number(rest.split_whitespace().next())?);
            } else if let Some((name, what)) = line.split_once(':').filter(|_| line.starts_with(char::is_lowercase)) {
                let right = match name {
                    "positions" => what.trim() == "line",
                    "events" => what.trim() == "Ir",
                    _ => true,
                };
                if !right {
                    return Err(format!("a dump with {line:?}"));
                }
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost = line.split(' ').nth(1).map_or(Ok(0), |cost| number(Some(cost)))?;
                match calls.take() {
                    Some(calls) => profile.called(&function, &callee, calls, cost),
                    None => profile.functions.entry(function.clone()).or_default().own += cost,
                }
            }
        }
        profile.instructions = total.ok_or("a dump without totals")?;
        Ok(profile)
    }

    fn called(&mut self, caller: &str, callee: &str, calls: u64, cost: u64) {
        if caller != callee {
            self.functions.entry(caller.to_owned()).or_default().below += cost;
        }
        self.functions.entry(callee.to_owned()).or_default().calls += calls;
        let both = self.calls.entry((caller.to_owned(), callee.to_owned())).or_default();
        both.count += calls;
        both.cost += cost;
        // An allocator may use its own functions.
        if allocates(callee) && !allocates(caller) {
            self.allocations += calls;
        }
    }

    /// Instructions without those by which the event loop waits for what comes next. How often it waits is a matter of
    /// timing: the less happens at a time, the more turns are taken for the same work. None: no function is known to
    /// be that of waiting.
    pub(crate) fn awake(&self) -> Option<u64> {
        let waiting = WAITING.iter().find_map(|name| self.functions.get(*name))?;
        Some(self.instructions.saturating_sub(waiting.own + waiting.below))
    }

    /// The functions that matter, all figures for one of `requests`.
    pub(crate) fn text(&self, requests: u64) -> String {
        let each = |count: u64| count as f64 / requests as f64;
        let (instructions, allocations) = (each(self.instructions), each(self.allocations));
        let mut text = format!("{instructions:.0} instructions, {allocations:.2} allocations a request\n");
        text += "\nInstructions of their own\n";
        self.write_functions(&mut text, each, &|one| one.own);
        text += "\nWith what they call (a function that comes again below itself counts more than once)\n";
        self.write_functions(&mut text, each, &|one| one.own + one.below);
        text += "\nWho calls the first of them\n";
        for (name, _) in self.most(&|one| one.own).into_iter().take(WITH_CALLERS) {
            let _ = writeln!(text, "{name}");
            let callers = self.callers(|callee| callee == name, |_| true);
            write_callers(&mut text, each, callers.into_iter().take(CALLERS));
        }
        text += "\nWho asks for memory\n";
        let gives = |name: &str| is_between(name) && !GIVING_BACK.iter().any(|part| name.contains(part));
        let callers = self.callers(gives, |caller| !is_between(caller));
        write_callers(&mut text, each, callers.into_iter().take(SHOWN));
        text
    }

    fn write_functions(&self, text: &mut String, each: impl Fn(u64) -> f64, key: &dyn Fn(&Function) -> u64) {
        let _ = writeln!(text, "{:>10} {:>10} {:>8}  function", "own", "with below", "calls");
        for (name, one) in self.most(key).into_iter().take(SHOWN) {
            let (own, below) = (each(one.own), each(one.own + one.below));
            let _ = writeln!(text, "{own:10.1} {below:10.1} {:8.2}  {name}", each(one.calls));
        }
    }

    /// All functions, those with most of something first.
    fn most(&self, key: &dyn Fn(&Function) -> u64) -> Vec<(&str, &Function)> {
        let mut functions: Vec<_> = self.functions.iter().map(|(name, one)| (name.as_str(), one)).collect();
        functions.sort_by(|a, b| key(b.1).cmp(&key(a.1)).then(a.0.cmp(b.0)));
        functions
    }

    /// Those of certain callers that call certain functions, the most expensive first.
    fn callers(&self, is_called: impl Fn(&str) -> bool, calls_it: impl Fn(&str) -> bool) -> Vec<(&str, Calls)> {
        let mut callers: BTreeMap<&str, Calls> = BTreeMap::new();
        for ((caller, _), calls) in self.calls.iter().filter(|((a, b), _)| is_called(b) && calls_it(a)) {
            let one = callers.entry(caller).or_default();
            one.count += calls.count;
            one.cost += calls.cost;
        }
        let mut sorted: Vec<_> = callers.into_iter().collect();
        sorted.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.cost));
        sorted
    }
}

fn write_callers<'p>(text: &mut String, each: impl Fn(u64) -> f64, callers: impl Iterator<Item = (&'p str, Calls)>) {
    for (caller, calls) in callers {
        let _ = writeln!(text, "{:10.1} in {:6.2} calls  {caller}", each(calls.cost), each(calls.count));
    }
}

/// Names are written once, as `(1) name`, and are then `(1)`. One that comes again below itself is `name'2`, which is
/// no other function.
#[derive(Debug, Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn read(&mut self, text: &str) -> Result<String, String> {
        let Some((id, name)) = text.split_once(')').filter(|(id, _)| id.starts_with('(')) else {
            return Ok(text.to_owned());
        };
        if !name.is_empty() {
            let name = name.trim_start();
            let again = name.rsplit_once('\'').filter(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            self.0.insert(id.to_owned(), again.map_or(name, |(first, _)| first).to_owned());
        }
        self.0.get(id).cloned().ok_or_else(|| format!("a dump with {text:?} before its name"))
    }
}

fn number(text: Option<&str>) -> Result<u64, String> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| format!("a dump with {text:?} where a number is to stand"))
}

/// True for what stands between one who needs memory and the allocator, and the allocator itself.
fn is_between(name: &str) -> bool {
    allocates(name) || BETWEEN.iter().any(|part| name.contains(part))
}

fn allocates(name: &str) -> bool {
    let bare = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    // jemalloc's own interface, by which its Rust bindings ask for what is aligned.
    ALLOCATING.contains(&bare.strip_suffix(SUFFIX).unwrap_or(bare)) || bare == "mallocx"
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
version: 1
positions: line
events: Ir
summary: 100

fl=(1) ???
fn=(1) main
0 10
cfn=(2) grow
calls=2 0
* 80
fn=(2)
0 20
cob=(1) libc.so
cfn=(3) malloc'2
calls=4 3350
+1 60

fn=(3)
0 50
+3 5
cfn=(4) _int_malloc
calls=1 0
* 5

fn=(4)
0 5

totals: 95
";

    #[test]
    fn a_dump_is_read() {
        let profile = Profile::parse(DUMP).expect("a dump");
        assert_eq!((profile.instructions, profile.allocations), (95, 4));
        let main = profile.functions["main"];
        assert_eq!((main.own, main.below, main.calls), (10, 80, 0));
        assert_eq!(profile.functions["malloc"].own, 55);
        let text = profile.text(2);
        assert!(text.ends_with("      30.0 in   2.00 calls  grow\n"), "{text}");
        assert_eq!(profile.awake(), None);
        let waiting = DUMP.replace("grow", WAITING[1]);
        assert_eq!(Profile::parse(&waiting).expect("a dump").awake(), Some(15));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (from, to) in [("events: Ir", "events: Ir Dr"), ("positions: line", "positions: instr line")] {
            assert!(Profile::parse(&DUMP.replace(from, to)).is_err(), "{to}");
        }
        assert!(Profile::parse(&DUMP.replace("totals", "total")).is_err());
    }

    #[test]
    fn allocators_are_known() {
        for name in ["malloc", "_rjem_mallocx", "_rjem_rallocx", "mi_malloc_aligned", "realloc", "posix_memalign"] {
            assert!(allocates(name), "{name}");
        }
        for name in ["_int_malloc", "free", "malloc_consolidate", "_rjem_sdallocx"] {
            assert!(!allocates(name), "{name}");
        }
    }
}
