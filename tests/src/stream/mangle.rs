//! Damage: what arrives from somebody who lies, or through a wire that does.

use ledger_proto::v1;

use super::Dice;

pub(super) fn mangle(dice: &mut Dice, submission: &mut v1::Submission) {
    let kind = dice.below(11);
    let bit = u32::try_from(dice.below(8)).expect("below 8");
    let at = dice.word();
    if kind == 0 {
        submission.signed = None;
        return;
    }
    if kind == 1 {
        submission.compartments.clear();
        return;
    }
    if kind == 2 {
        for compartment in &mut submission.compartments {
            compartment.content.push(b' ');
        }
        return;
    }
    let Some(signed) = &mut submission.signed else {
        return;
    };
    match kind {
        3 => flip(&mut signed.command, at, bit),
        4 => signed.command.truncate(signed.command.len() / 2),
        // An unknown field: it decodes, and is not canonical.
        5 => signed.command.extend_from_slice(&[0xf8, 0x3f, 1]),
        6 => signed.signatures.clear(),
        7 => {
            let twice = signed.signatures.clone();
            signed.signatures.extend(twice);
        }
        _ => {
            let Some(signature) = signed.signatures.first_mut() else {
                return;
            };
            match kind {
                8 => flip(&mut signature.signature, at, bit),
                9 => signature.batch_index = signature.batch_index.wrapping_add(1),
                _ => flip(&mut signature.key_id, at, bit),
            }
        }
    }
}

fn flip(bytes: &mut [u8], at: u64, bit: u32) {
    if bytes.is_empty() {
        return;
    }
    let at = usize::try_from(at % bytes.len() as u64).expect("below a length");
    bytes[at] ^= 1 << bit;
}
