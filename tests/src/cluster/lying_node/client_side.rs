//! How a lying node answers clients: as an honest node would, and then not.

use std::sync::Arc;

use ledger_client::paths;
use ledger_proto::v1;
use prost::Message;

use super::forge::Forge;
use super::knowledge::Shared;
use super::script::ClientAnswers;
use crate::cluster::client::now_us;
use crate::cluster::liar::Liar;
use crate::kit::SECOND;
use crate::stream::Dice;

/// The calls that clients make of a ledger.
const CALLS: &[&str] = &[
    paths::AUTHORIZE,
    paths::GET_CHECKPOINT,
    RECORD,
    GET_ENTRY,
    SET_HALT,
    CLEAR_HALT,
];
const RECORD: &str = "/countersign.v1.AuthorizationService/Record";
const GET_ENTRY: &str = "/countersign.v1.LedgerService/GetEntry";
const SET_HALT: &str = "/countersign.v1.PolicyService/SetHalt";
const CLEAR_HALT: &str = "/countersign.v1.PolicyService/ClearHalt";

/// Sets what clients are told from now on.
pub(super) fn set(
    front: &Liar,
    forge: &Arc<Forge>,
    knowledge: &Shared,
    answers: ClientAnswers,
    number: u64,
) {
    front.is_honest();
    match answers {
        ClientAnswers::AsIfHonest => {}
        ClientAnswers::Silence => front.is_silent(paths::AUTHORIZE),
        ClientAnswers::Replay => {
            for path in CALLS {
                front.repeats(path);
            }
        }
        ClientAnswers::Revived => {
            front.changes(
                paths::AUTHORIZE,
                move |answer: &mut v1::AuthorizeResponse| {
                    answer.replayed = number.is_multiple_of(2);
                    answer.now = (number % 4 < 3).then(alive);
                },
            );
        }
        ClientAnswers::Promoted => {
            front.changes(paths::AUTHORIZE, |answer: &mut v1::AuthorizeResponse| {
                if let Some(receipt) = &mut answer.receipt {
                    receipt.level = v1::ReceiptLevel::Cosigned.into();
                }
            });
        }
        ClientAnswers::Forged => {
            let (proving, known) = (Arc::clone(forge), knowledge.clone());
            front.forges(paths::GET_CONSISTENCY_PROOF, move |question| {
                proving.consistency(&known, question)
            });
            let (forge, known) = (Arc::clone(forge), knowledge.clone());
            front.forges(paths::AUTHORIZE, move |question| {
                forge.yes(&known, question)
            });
        }
        ClientAnswers::Stripped => strip(front),
        ClientAnswers::Damaged => {
            let mut dice = Dice::new(number);
            for path in CALLS {
                let mut dice = Dice::new(dice.word());
                front.garbles(path, move |mut said| {
                    if !said.is_empty() {
                        let at = super::forge::below(&mut dice, said.len() as u64);
                        said[at] ^= 1 << dice.below(8);
                    }
                    said
                });
            }
        }
        ClientAnswers::OldCheckpoint => show_old(front),
        ClientAnswers::Noise => {
            for path in CALLS {
                front.garbles(path, |said| vec![0xff; said.len()]);
            }
        }
    }
}

/// Takes the content off questions.
fn strip(front: &Liar) {
    front.garbles_questions(paths::AUTHORIZE, |question| {
        without_content(question, |question: &mut v1::AuthorizeRequest| {
            question.submission.as_mut()
        })
    });
    front.garbles_questions(RECORD, |question| {
        without_content(question, |question: &mut v1::RecordRequest| {
            question.submission.as_mut()
        })
    });
}

/// Shows the first checkpoint again and again.
fn show_old(front: &Liar) {
    front.repeats(paths::GET_CHECKPOINT);
    let mut first: Option<String> = None;
    front.changes(
        paths::AUTHORIZE,
        move |answer: &mut v1::AuthorizeResponse| {
            if let Some(receipt) = &mut answer.receipt {
                let old = first.get_or_insert_with(|| receipt.checkpoint.clone());
                receipt.checkpoint.clone_from(old);
            }
        },
    );
}

/// Everything is well.
fn alive() -> v1::Liveness {
    v1::Liveness {
        time_us: now_us().saturating_sub(3_600 * SECOND),
        permit_lives: true,
        agent_active: true,
        session_open: true,
        halted: false,
        redeemed: false,
    }
}

fn without_content<Q: Message + Default>(
    question: Vec<u8>,
    submission: impl Fn(&mut Q) -> Option<&mut v1::Submission>,
) -> Vec<u8> {
    let Ok(mut message) = Q::decode(question.as_slice()) else {
        return question;
    };
    if let Some(submission) = submission(&mut message) {
        submission.compartments.clear();
    }
    message.encode_to_vec()
}
