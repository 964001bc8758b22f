//! A run: lies and honest clients in the order of a script, and what is judged at its end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ledger_client::{Author, Client, Level, Permit, Question, Settings, Signed, Trust};
use ledger_core::id::Identity;

use super::judge::{Account, judge};
use super::script::{Act, Kind, Script, Step};
use super::{LyingNode, Met};
use crate::cluster::client::now_us;
use crate::cluster::people::Actor;
use crate::cluster::wait::until;
use crate::cluster::{Cluster, Options, RECOVERY, admin};
use crate::kit::{RULES, bundle, key};
use crate::stream::Dice;

/// How long a client waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How many steps there are between two looks at the honest nodes.
const LOOK: usize = 20;
/// How many steps there are between two questions that honest nodes must answer.
const SERVE: usize = 100;
/// Agents of honest clients.
const AGENTS: usize = 3;
/// How long permits of the rules last, in seconds.
const PERMIT: &str = "5";

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Play {
    /// Nodes of the cluster.
    pub nodes: u64,
    /// How many of them lie.
    pub liars: u64,
    /// Steps.
    pub steps: usize,
    /// What is drawn.
    pub seed: u64,
}

/// What a run was like.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How often each lie met what.
    pub met: BTreeMap<String, BTreeMap<Met, usize>>,
    /// How often each act succeeded and failed.
    pub acts: BTreeMap<Act, (usize, usize)>,
    /// How many yeses were believed.
    pub yeses: usize,
    /// How many entries were acknowledged.
    pub acknowledged: usize,
}

impl Report {
    /// Adds what became of more lies.
    fn add(&mut self, told: BTreeMap<String, BTreeMap<Met, usize>>) {
        for (lie, met) in told {
            let counts = self.met.entry(lie).or_default();
            for (met, count) in met {
                *counts.entry(met).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} yeses believed, {} entries acknowledged",
            self.yeses, self.acknowledged
        )?;
        for (lie, met) in &self.met {
            writeln!(f, "  {lie}: {met:?}")?;
        }
        for (act, (done, failed)) in &self.acts {
            writeln!(f, "  {act:?}: {done} answered, {failed} not")?;
        }
        Ok(())
    }
}

/// Bytes that were sent, and may be sent again.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) agent: String,
    pub(super) signed: Signed,
    pub(super) issued_at_us: u64,
}

/// A permit that a client holds.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) sent: Sent,
    pub(super) permit: Permit,
    pub(super) input: String,
}

/// Everything that takes part.
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) liars: Vec<LyingNode>,
    pub(super) actors: Vec<Actor>,
    /// One for each node that is asked first.
    pub(super) clients: Vec<Client>,
    /// Knows honest nodes only.
    pub(super) sure: Client,
    pub(super) at: usize,
    pub(super) account: Account,
    /// How many of its events were looked at on honest nodes.
    pub(super) looked_at: usize,
    pub(super) sent: Vec<Sent>,
    pub(super) held: Vec<Held>,
    pub(super) report: Report,
}

impl Play {
    /// Runs it, and panics with all findings if there are any.
    ///
    /// # Panics
    /// If a promise is broken.
    pub async fn run(self) -> Report {
        let mut stage = Stage::set(self).await;
        let script = Script::new(self.seed);
        let mut trail = Trail::default();
        for (at, step) in script.take(self.steps).enumerate() {
            stage.at = at;
            trail.goes(at, step);
            stage.step(step).await;
            if at % LOOK == LOOK - 1 {
                stage.cluster.must_be_alive();
            }
            if at % SERVE == SERVE - 1 {
                stage.must_have_kept().await;
                stage.must_serve().await;
            }
        }
        stage.end().await
    }
}

/// The newest steps, shown when a run fails.
#[derive(Debug, Default)]
struct Trail(VecDeque<(usize, Step)>);

impl Trail {
    fn goes(&mut self, at: usize, step: Step) {
        self.0.push_back((at, step));
        if self.0.len() > LOOK {
            self.0.pop_front();
        }
    }
}

impl Drop for Trail {
    #[expect(
        clippy::print_stderr,
        reason = "whoever reads the failure wants to know what came before it"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, step) in &self.0 {
                eprintln!("step {at}: {:?}, number {}", step.kind, step.number);
            }
        }
    }
}

pub(super) fn author(identity: Identity) -> Author {
    let signer = Arc::new(key(&identity.to_string()));
    Author::new(identity, signer).expect("a good key")
}

fn client(cluster: &Cluster, endpoints: Vec<String>) -> Client {
    let mut settings = Settings::new(endpoints);
    settings.timeout = PATIENCE;
    settings.level = Level::Cosigned;
    settings.known_conditions.insert("notify".to_owned());
    let trust = Trust::new(cluster.policy.clone(), None).expect("a trust policy");
    Client::new(settings, trust, Some(author(admin()))).expect("a client")
}

impl Stage {
    async fn set(play: Play) -> Self {
        let options = Options {
            nodes: play.nodes,
            ..Options::default()
        };
        let mut cluster = Cluster::start(options).await;
        let rules = RULES.replace(
            "@id(\"read\")",
            &format!("@id(\"read\")\n@permit_ttl(\"{PERMIT}\")"),
        );
        let mut actors = cluster.settle(AGENTS + 1, &bundle("agent", &rules)).await;
        let accomplice = actors.pop().expect("one more");
        // Whoever leads is one of them, now and then.
        let mut nodes = cluster.nodes();
        let turn = usize::try_from(play.seed % play.nodes).expect("few nodes");
        nodes.rotate_left(turn);
        let count = usize::try_from(play.liars).expect("few liars");
        let (lying, honest) = nodes.split_at(count);
        let mut liars = Vec::new();
        for id in lying {
            liars.push(LyingNode::take_place(&mut cluster, *id, honest, &accomplice).await);
        }
        cluster.leader_among(honest).await;
        let endpoints: Vec<String> = nodes.iter().map(|node| cluster.endpoint(*node)).collect();
        let clients = (0..endpoints.len())
            .map(|first| {
                let mut endpoints = endpoints.clone();
                endpoints.rotate_left(first);
                client(&cluster, endpoints)
            })
            .collect();
        let sure = honest.iter().map(|node| cluster.endpoint(*node)).collect();
        Self {
            sure: client(&cluster, sure),
            clients,
            cluster,
            liars,
            actors,
            at: 0,
            account: Account::default(),
            looked_at: 0,
            sent: Vec::new(),
            held: Vec::new(),
            report: Report::default(),
        }
    }

    async fn step(&mut self, Step { kind, number }: Step) {
        let liar = usize::try_from(number % 7).expect("small") % self.liars.len();
        let liar = &self.liars[liar];
        match kind {
            Kind::Attack(attack) => {
                let met = liar.lies(attack, number).await;
                for met in met {
                    let lie = BTreeMap::from([(met, 1)]);
                    self.report
                        .add(BTreeMap::from([(format!("{attack:?}"), lie)]));
                }
            }
            Kind::PeerAnswers(answers) => liar.answers_peers(answers, number),
            Kind::ClientAnswers(answers) => liar.answers_clients(answers, number),
            Kind::Act(act) => {
                let done = self.act(act, &mut Dice::new(number)).await;
                let counts = self.report.acts.entry(act).or_default();
                match done {
                    Some(()) => counts.0 += 1,
                    None => counts.1 += 1,
                }
            }
        }
    }

    /// Honest nodes answer within bounded time, whatever the liars do.
    async fn must_serve(&mut self) {
        let actor = self.actors[0].clone();
        let sure = self.sure.clone();
        let client = sure.speaking_as(author(Identity::Agent(actor.agent.clone())));
        let what = format!("honest nodes decide after step {}", self.at);
        let question = Question::new(&actor.agent, actor.session, "bank/read", r#"{"doc":"a"}"#);
        let signed = client.sign_one(question.ask()).expect("signs");
        self.cluster.signing.remember(&signed.submission);
        let decision = until(&what, RECOVERY, async || client.ask(&signed).await.ok()).await;
        self.acknowledged(&decision.proven);
    }

    async fn end(mut self) -> Report {
        for liar in &self.liars {
            liar.is_honest();
            self.report.add(liar.told().0);
        }
        self.must_have_kept().await;
        self.must_serve().await;
        let case = self.cluster.must_keep_promises().await;
        self.account.ended_at_us = now_us();
        let mut findings = judge(&self.account, &case.ledgers);
        findings.extend(self.liars.iter().flat_map(|liar| liar.told().1));
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
        self.cluster.must_be_sound_on_disk().await;
        self.report
    }
}
