//! What honest clients do while nodes lie, and what they then believe.

use ledger_client::{Client, Decision, Execution, Level, Proven, Question, result_of};
use ledger_core::evidence;
use ledger_core::id::Identity;
use ledger_proto::v1::{self, ExecutionStatus, command::Body};
use prost::Message as _;

use super::judge::{Event, How, Yes};
use super::script::Act;
use super::stage::{Held, PATIENCE, Sent, Stage, author};
use crate::cluster::client::{Line, now_us};
use crate::cluster::people::Actor;
use crate::cluster::wait::until;
use crate::cluster::{RECOVERY, admin};
use crate::stream::Dice;

impl Stage {
    fn happens(&mut self, event: Event) {
        self.account.events.push((self.at, event));
    }

    pub(super) fn acknowledged(&mut self, proven: &Proven) {
        if proven.level == Level::Cosigned {
            self.report.acknowledged += 1;
            self.happens(Event::Acknowledged {
                index: proven.index,
                entry: proven.entry.encode_to_vec(),
                at_us: now_us(),
            });
        }
    }

    fn client(&self, dice: &mut Dice) -> Client {
        // Often a liar is asked first.
        let first = if dice.percent(40) { 0 } else { dice.below(9) };
        let first = usize::try_from(first).expect("small") % self.clients.len();
        self.clients[first].clone()
    }

    pub(super) async fn act(&mut self, act: Act, dice: &mut Dice) -> Option<()> {
        let client = self.client(dice);
        let agent = dice.pick(&self.actors).clone();
        match act {
            Act::Ask => {
                self.ask(&client, &agent, "bank/read", r#"{"doc":"a"}"#)
                    .await
            }
            Act::Pay => {
                let input = r#"{"to":"bob","amount":1}"#;
                self.ask(&client, &agent, "bank/pay", input).await
            }
            Act::PayMallory => {
                let input = r#"{"to":"mallory","amount":1}"#;
                self.ask(&client, &agent, "bank/pay", input).await
            }
            Act::AskAgain => {
                let sent = dice.recent(&self.sent)?.clone();
                let client = client.speaking_as(author(Identity::Agent(sent.agent.clone())));
                let decision = client.ask(&sent.signed).await.ok()?;
                self.decided(&decision, &sent, How::Again);
                Some(())
            }
            Act::LookAtPermit => {
                let held = dice.recent(&self.held)?.clone();
                if held.permit.holds() {
                    self.believed(held.permit.decision(), &held.sent, How::Again);
                }
                Some(())
            }
            Act::Redeem => {
                let held = dice.recent(&self.held)?.clone();
                self.redeem(&client, &held).await
            }
            Act::Record => {
                let held = dice.recent(&self.held)?.clone();
                let client = client.speaking_as(author(Identity::Agent(held.sent.agent.clone())));
                let execution = Execution::of(
                    &held.permit,
                    ExecutionStatus::Succeeded,
                    held.input.as_str(),
                );
                let signed = client.sign_one(execution.ask()).ok()?;
                self.cluster.signing.remember(&signed.submission);
                let submitted = client.send(&signed).await.ok()?;
                self.acknowledged(&submitted.proven);
                Some(())
            }
            Act::Halt | Act::ClearHalt | Act::Suspend | Act::Resume => {
                self.govern(&client, act, &agent).await
            }
            Act::Prove => self.prove(dice).await,
            Act::Check => client.check().await.ok(),
        }
    }

    async fn ask(
        &mut self,
        client: &Client,
        actor: &Actor,
        action: &str,
        input: &str,
    ) -> Option<()> {
        let client = client.speaking_as(author(Identity::Agent(actor.agent.clone())));
        let question = Question::new(&actor.agent, actor.session, action, input);
        let signed = client.sign_one(question.ask()).ok()?;
        self.cluster.signing.remember(&signed.submission);
        let command = v1::Command::decode(signed.command()).ok()?;
        let sent = Sent {
            agent: actor.agent.clone(),
            signed,
            issued_at_us: command.issued_at_us,
        };
        self.sent.push(sent.clone());
        let decision = client.ask(&sent.signed).await.ok()?;
        self.decided(&decision, &sent, How::Asked);
        if let Ok(permit) = decision.require() {
            let input = input.to_owned();
            self.held.push(Held {
                sent,
                permit,
                input,
            });
        }
        Some(())
    }

    fn decided(&mut self, decision: &Decision, sent: &Sent, how: How) {
        self.acknowledged(&decision.proven);
        if decision.permits_now() {
            self.believed(decision, sent, how);
        }
    }

    fn believed(&mut self, decision: &Decision, sent: &Sent, how: How) {
        self.report.yeses += 1;
        self.happens(Event::Yes(Yes {
            agent: sent.agent.clone(),
            how,
            index: decision.proven.index,
            entry: decision.proven.entry.encode_to_vec(),
            issued_at_us: sent.issued_at_us,
            believed_at_us: now_us(),
        }));
    }

    async fn redeem(&mut self, client: &Client, held: &Held) -> Option<()> {
        let agent = held.sent.agent.clone();
        let client = client.speaking_as(author(Identity::Agent(agent.clone())));
        let issued_at_us = now_us();
        let redeemed = held
            .permit
            .redeem(&client, held.input.as_str())
            .await
            .ok()?;
        self.acknowledged(&redeemed.proven);
        if redeemed.permits_now() {
            self.report.yeses += 1;
            self.happens(Event::Yes(Yes {
                agent,
                how: How::Redeemed {
                    decision: redeemed.decision,
                },
                index: redeemed.proven.index,
                entry: redeemed.proven.entry.encode_to_vec(),
                issued_at_us,
                believed_at_us: now_us(),
            }));
        }
        Some(())
    }

    /// A command of the admin: with all nodes, and if that fails with honest ones, until it is known what became of it.
    async fn govern(&mut self, client: &Client, act: Act, actor: &Actor) -> Option<()> {
        let agent = actor.agent.clone();
        let status = |status: v1::IdentityStatus| {
            Body::SetStatus(v1::SetStatus {
                identity: Some(Identity::Agent(agent.clone()).to_message()),
                status: status.into(),
            })
        };
        let (body, event) = match act {
            Act::Halt => {
                let everything = v1::halt_scope::Target::Everything(true);
                let body = Body::SetHalt(v1::SetHalt {
                    id: "halt".to_owned(),
                    scope: Some(v1::HaltScope {
                        target: Some(everything),
                    }),
                    expires_at_us: 0,
                });
                (body, Some(Event::Halted))
            }
            Act::Suspend => {
                let body = status(v1::IdentityStatus::Suspended);
                (body, Some(Event::Suspended(agent.clone())))
            }
            Act::Resume => {
                self.happens(Event::Resuming(agent.clone()));
                (status(v1::IdentityStatus::Active), None)
            }
            _ => {
                self.happens(Event::Lifting);
                let id = "halt".to_owned();
                (Body::ClearHalt(v1::ClearHalt { id }), None)
            }
        };
        let signed = client.sign_one(body).ok()?;
        self.cluster.signing.remember(&signed.submission);
        let submitted = match client.send(&signed).await {
            Ok(submitted) => submitted,
            Err(_) => {
                let sure = self.sure.clone();
                until("honest nodes answer the admin", RECOVERY, async || {
                    sure.send(&signed).await.ok()
                })
                .await
            }
        };
        self.acknowledged(&submitted.proven);
        if result_of(&submitted.proven.entry) == v1::Result::Applied
            && let Some(event) = event
        {
            self.happens(event);
        }
        Some(())
    }

    /// Fetches the evidence of a decision from every node, and believes what verifies.
    async fn prove(&mut self, dice: &mut Dice) -> Option<()> {
        const PATH: &str = "/countersign.v1.LedgerService/GetEvidence";
        let held = dice.recent(&self.held)?.clone();
        let message = v1::GetEvidenceRequest {
            subject: Some(v1::get_evidence_request::Subject::Decision(
                held.permit.decision().proven.index,
            )),
            ..v1::GetEvidenceRequest::default()
        };
        let mut done = None;
        let nodes: Vec<u64> = self.liars.iter().map(|liar| liar.id).collect();
        for node in nodes.into_iter().chain(self.cluster.nodes()) {
            let line = Line::new(node, &self.cluster.file(node).client.to_string());
            let request = self.cluster.signing.read(&admin(), PATH, message.clone());
            let mut file = Vec::new();
            let fetched = tokio::time::timeout(PATIENCE, async {
                let parts = line.listen::<_, v1::GetEvidenceResponse>(PATH, request);
                let mut parts = parts.await.ok()?;
                while let Some(part) = parts.message().await.ok()? {
                    file.extend_from_slice(&part.chunk);
                }
                Some(())
            });
            if fetched.await.ok().flatten().is_none() {
                continue;
            }
            let Ok(told) = evidence::decode(&file) else {
                continue;
            };
            if evidence::verify(&told, &self.cluster.policy).is_err() {
                continue;
            }
            done = Some(());
            for proven in told.entries {
                self.happens(Event::Proven {
                    index: proven.index,
                    entry: proven.entry,
                });
            }
        }
        done
    }
}
