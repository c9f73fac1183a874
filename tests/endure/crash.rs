//! The gateway is killed with -9 at random moments while versions are pushed, activated and rolled back.
//! It has to come back each time, soon, on a version that its operator knows to be active.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use orchestrator_tests::{Gateway, Push, toml_path};
use tempfile::TempDir;

use crate::admin::{Admin, Said};
use crate::endpoint::Endpoint;
use crate::load::{Caller, get};
use crate::process::{is_alive, settles};
use crate::{Verdicts, figure, versions};

/// From the start of the process to its first answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// From the first answer to the kill.
const KILL_AFTER_MS: std::ops::Range<u64> = 1..400;

/// Versions that may be activated again. The gateway forgets versions too, but later than this.
const RECENT: usize = 8;

pub(crate) async fn run(quick: bool, verdicts: &mut Verdicts) {
    let kills = if quick { 20 } else { 50 };
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    figure("seed of the moments", seed);
    let folder = TempDir::new().unwrap();
    let state_dir = folder.path().join("state");
    let endpoint = Endpoint::start("/dev/null").await;
    let lines = format!(
        "services.writer.endpoints = [\"http://{}\"]\n{}server.workers = 2\nlog.access = \"off\"\n\
         server.state_dir = {}\nserver.cache_dir = \"off\"\nbreaker.failure_threshold = 1000\n",
        endpoint.address,
        versions::first(),
        toml_path(&state_dir),
    );
    // Nothing is compiled yet: this start may take its time.
    let mut gateway = Gateway::start_at(folder.path(), &lines).await;
    let mut policies = [Policy::new("routing"), Policy::new("retry")];
    let mut found = Found::default();
    for policy in &mut policies {
        policy.check(&gateway, &mut found).await;
    }
    for _ in 0..kills {
        let mut admin = Admin::of(&gateway);
        let after = Duration::from_millis(fastrand::u64(KILL_AFTER_MS));
        let kill = async {
            tokio::time::sleep(after).await;
            let children = gateway.children();
            gateway.kill().await;
            children
        };
        let (changes, children) = tokio::join!(change(&mut admin, &mut policies), kill);
        found.changes += changes.done;
        found.refused.extend(changes.refused);
        found.compiling += children.len();
        if !settles(|| !children.iter().any(|child| is_alive(*child))).await {
            found.wrong.push(format!("children outlive it: {children:?}"));
        }

        let began = Instant::now();
        gateway = Gateway::start_at(folder.path(), &lines).await;
        let answer = Caller::new(gateway.listen).call(&get("/version")).await;
        found.answers.push(began.elapsed());
        if !matches!(answer, Ok((200, _))) {
            found.wrong.push(format!("the first answer: {answer:?}"));
        }
        for policy in &mut policies {
            policy.check(&gateway, &mut found).await;
        }
    }
    found.judge(kills, verdicts);
    left_over(&state_dir, verdicts);
}

#[derive(Debug, Default)]
struct Found {
    /// Changes that were acknowledged, and those that were refused.
    changes: usize,
    refused: Vec<String>,
    /// Kills that met a child.
    compiling: usize,
    answers: Vec<Duration>,
    /// Of each policy, after each start: which version is it on?
    acknowledged: usize,
    under_way: usize,
    previous: usize,
    wrong: Vec<String>,
}

impl Found {
    fn judge(mut self, kills: usize, verdicts: &mut Verdicts) {
        self.answers.sort_unstable();
        let [middle, longest] = [kills / 2, kills - 1].map(|at| self.answers[at]);
        figure("changes that were acknowledged", self.changes);
        figure("kills while a child compiled", self.compiling);
        let said = format!("{} {:?}", self.refused.len(), self.refused.first());
        verdicts.verdict(self.refused.is_empty(), "no change is refused", said);
        let said = format!("{kills} kills, p50 {middle:.0?}, longest {longest:.0?}");
        let criterion = "it starts again every time, and answers within 500 ms";
        verdicts.verdict(longest <= ANSWER_MAX, criterion, said);
        let shown: Vec<&String> = self.wrong.iter().take(5).collect();
        let said = format!(
            "on the one that was acknowledged last {}, on one that was on its way {}, on the one before \
             {}, wrong {} {shown:?}",
            self.acknowledged,
            self.under_way,
            self.previous,
            self.wrong.len()
        );
        let criterion = "each policy is on a version that was active or previous, and whole";
        verdicts.verdict(self.wrong.is_empty(), criterion, said);
    }
}

/// What the operator knows of a policy.
#[derive(Debug)]
struct Policy {
    kind: &'static str,
    component: Vec<u8>,
    /// The number of each version, by its name.
    numbers: HashMap<String, u32>,
    active: String,
    previous: Option<String>,
    under_way: Option<Change>,
    largest: u32,
    /// Those that were pushed last.
    recent: VecDeque<String>,
}

#[derive(Debug, Clone)]
enum Change {
    /// Of a version of this number.
    Push(u32),
    To(String),
}

impl Policy {
    fn new(kind: &'static str) -> Policy {
        Policy {
            kind,
            component: versions::component(kind),
            numbers: HashMap::new(),
            active: String::new(),
            previous: None,
            under_way: Some(Change::Push(0)),
            largest: 0,
            recent: VecDeque::new(),
        }
    }

    /// Which version is it on, and does that one decide?
    async fn check(&mut self, gateway: &Gateway, found: &mut Found) {
        match self.found(gateway).await {
            Ok(Came::Acknowledged) => found.acknowledged += 1,
            Ok(Came::UnderWay) => found.under_way += 1,
            Ok(Came::Previous) => found.previous += 1,
            Err(wrong) => found.wrong.push(format!("{}: {wrong}", self.kind)),
        }
        self.under_way = None;
    }

    async fn found(&mut self, gateway: &Gateway) -> Result<Came, String> {
        let told = Admin::of(gateway).policy(self.kind).await.map_err(|error| error.to_string())?;
        let active = told["active"].as_str().unwrap_or_default().to_owned();
        let previous = told["previous"].as_str().map(str::to_owned);
        let listed = told["versions"].as_array().into_iter().flatten();
        let states: Vec<_> = listed.filter(|it| it["version"] == active.as_str()).collect();
        let whole = states.len() == 1 && states[0]["state"] == "active";
        let came = match &self.under_way {
            _ if active == self.active => Ok(Came::Acknowledged),
            Some(Change::To(name)) if *name == active => Ok(Came::UnderWay),
            Some(Change::Push(number)) if !self.numbers.contains_key(&active) => {
                self.numbers.insert(active.clone(), *number);
                Ok(Came::UnderWay)
            }
            _ if Some(&active) == self.previous.as_ref() => Ok(Came::Previous),
            under_way => Err(format!(
                "{active}, where {} was active, {:?} previous, {under_way:?} on its way",
                self.active, self.previous
            )),
        };
        (self.active, self.previous) = (active, previous);
        if !whole {
            return Err(format!("the active version is listed as {states:?}"));
        }
        let number = self.numbers.get(&self.active).copied();
        let decided = decided(gateway, self.kind).await?;
        let fits = match self.kind {
            "routing" => number == Some(decided),
            _ => number.map(|number| number % 2) == Some(decided),
        };
        if fits { came } else { Err(format!("{decided} decides instead of {number:?}")) }
    }

    /// One change, at random.
    async fn change(&mut self, admin: &mut Admin) -> io::Result<Said> {
        let to_previous = self.previous.clone().unwrap_or_default();
        // One that may have been retired.
        let to_recent = fastrand::choice(&self.recent).cloned().unwrap_or_default();
        let said = match fastrand::u8(..8) {
            0..3 if !to_previous.is_empty() => {
                self.under_way = Some(Change::To(to_previous.clone()));
                admin.activate(self.kind, &to_previous).await?
            }
            3..6 if !to_previous.is_empty() => {
                self.under_way = Some(Change::To(to_previous));
                admin.rollback(self.kind).await?
            }
            6 if to_recent != self.active && !to_recent.is_empty() => {
                self.under_way = Some(Change::To(to_recent.clone()));
                admin.activate(self.kind, &to_recent).await?
            }
            _ => self.push(admin).await?,
        };
        if matches!(said.status, 200 | 201) {
            let name = said.text("version").to_owned();
            if let Some(Change::Push(number)) = self.under_way {
                self.numbers.insert(name.clone(), number);
                self.recent.push_back(name.clone());
                if self.recent.len() > RECENT {
                    self.recent.pop_front();
                }
            }
            self.previous = Some(std::mem::replace(&mut self.active, name));
            self.under_way = None;
        }
        Ok(said)
    }

    async fn push(&mut self, admin: &mut Admin) -> io::Result<Said> {
        self.largest += 1;
        let number = self.largest;
        self.under_way = Some(Change::Push(number));
        // Some are to be compiled.
        let rebuilt = fastrand::u8(..40) == 0;
        let rebuilt = rebuilt.then(|| versions::rebuilt(&self.component, number));
        let component = rebuilt.as_ref().unwrap_or(&self.component);
        let config = match self.kind {
            "routing" => versions::routing(number),
            _ => versions::retry(number),
        };
        admin.push(self.kind, &Push::of(&**component).config(config)).await
    }
}

/// Of the version that a policy came back on.
#[derive(Debug)]
enum Came {
    Acknowledged,
    UnderWay,
    Previous,
}

#[derive(Debug, Default)]
struct Changes {
    done: usize,
    refused: Vec<String>,
}

/// Changes both policies until the gateway is gone.
async fn change(admin: &mut Admin, policies: &mut [Policy; 2]) -> Changes {
    let mut changes = Changes::default();
    loop {
        let policy = &mut policies[usize::from(fastrand::bool())];
        match policy.change(admin).await {
            Ok(said) if matches!(said.status, 200 | 201) => changes.done += 1,
            Ok(said) => {
                policy.under_way = None;
                changes.refused.push(format!("{} {}", said.status, said.json));
            }
            Err(_) => return changes,
        }
    }
}

/// The number of the routing version that decides, or of the retry version whether it is even.
async fn decided(gateway: &Gateway, kind: &str) -> Result<u32, String> {
    let mut caller = Caller::new(gateway.listen);
    let text = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
    if kind == "routing" {
        let (_, body) = caller.call(&get("/version")).await.map_err(|error| error.to_string())?;
        let body = text(body);
        return body.parse().map_err(|_| format!("routing version {body:?}"));
    }
    let judged = versions::judged(fastrand::u64(..));
    let (status, body) = caller.call(&get(&judged)).await.map_err(|error| error.to_string())?;
    versions::kind_of(status, text(body).split(' ').count())
}

/// What so many kills have left in the folder, while the gateway runs again.
fn left_over(state_dir: &Path, verdicts: &mut Verdicts) {
    let mut half_written = 0;
    for folder in ["", "objects", "compiled"] {
        let (mut files, mut bytes) = (0, 0);
        for file in std::fs::read_dir(state_dir.join(folder)).unwrap().flatten() {
            let metadata = file.metadata().unwrap();
            files += usize::from(metadata.is_file());
            bytes += metadata.len();
            half_written += usize::from(file.file_name().to_string_lossy().starts_with(".tmp"));
        }
        figure(&format!("state_dir/{folder}"), format!("{files} files, {} KiB", bytes / 1024));
    }
    let criterion = "what a kill leaves half written does not pile up";
    verdicts.verdict(half_written <= 1, criterion, half_written);
}
