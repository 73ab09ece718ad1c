//! Fixed runs, one for each race that is to be known by name.

use super::*;
use crate::config::WhenSick;
use crate::zk::Mode;

#[test]
fn an_earlier_write_that_comes_late_is_noticed() {
    // Our own nodes are listed, and the node is created once all that is above it is.
    let mut script = vec![Interruption::None; 10];
    script.push(Interruption::Late);
    let ops = [
        Op::Act(Act::Register(0, 1)),
        Op::Step(false, script),
        Op::Act(Act::Register(0, 3)),
        Op::Step(false, vec![]),
        Op::Act(Act::Delete(0)),
        Op::LateWrites,
    ];
    Run::settled(&ops).unwrap();
}

#[test]
fn a_late_write_is_noticed_where_what_is_above_it_was_deleted_meanwhile() {
    // What is above it is deleted when all but the service is created, for the third time.
    let mut script = vec![Interruption::None; 8];
    script.push(Interruption::Act(Act::DeleteParents));
    script.push(Interruption::Late);
    let ops = [
        Op::Step(false, vec![]),
        Op::Act(Act::Register(0, 1)),
        Op::Step(false, script),
        Op::Step(false, vec![]),
        Op::Act(Act::Unregister(0)),
    ];
    Run::settled(&ops).unwrap();
}

#[test]
fn a_node_of_ours_that_nobody_wants_goes_with_the_next_connection() {
    let mut run = Run::new();
    run.take(&Op::Act(Act::Register(0, 1)));
    run.step(true, &[]);
    let created = run.session.create(&path(1), b"again", Mode::Ephemeral);
    created.unwrap();
    run.take(&Op::Reconnect);
    run.settle();
    run.check().unwrap();
}

/// Guards against an earlier write of ours that passed for an edit, once somebody had saved it.
#[test]
fn a_node_that_is_saved_before_a_switch_is_written_is_switched() {
    for switches in [
        [Act::SetEnabled(0, false), Act::SetEnabled(0, true)],
        [Act::Sick(0, Some(WhenSick::SwitchOff)), Act::Sick(0, None)],
    ] {
        let mut run = Run::new();
        run.take(&Op::Act(Act::Register(0, 1)));
        run.step(true, &[]);
        for (at, switch) in switches.into_iter().enumerate() {
            let save = Act::Save(0, at == 0);
            run.take_all(&[Op::Act(switch), Op::Act(save), Op::Rest]);
            run.check().unwrap();
        }
    }
}

/// Guards against a doubt that ended with its time, before anybody had looked at the node again.
#[test]
fn a_late_write_is_noticed_by_a_look_that_comes_later_than_any_can() {
    let mut run = Run::new();
    run.take(&Op::Act(Act::Register(0, 1)));
    run.step(true, &[]);
    run.take(&Op::Abandon);
    // What is ours is listed; the node is held back.
    run.step(true, &[]);
    run.pass(Duration::from_millis(200));
    // Looked at twice, what the session before left there is replaced.
    let mut script = vec![Interruption::None; 3];
    script.extend([Interruption::Late, Interruption::Late]);
    run.take(&Op::Step(true, script));
    run.take(&Op::Act(Act::Register(0, 3)));
    run.take(&Op::Rest);
    run.take(&Op::LateWrites);
    run.now += SESSION_TIMEOUT * 2;
    run.take(&Op::Rest);
    run.check().unwrap();
}

/// Guards against a write that was under way when its registration was replaced, and passed for an edit once that was
/// restored.
#[test]
fn a_write_for_a_registration_that_is_replaced_meanwhile_is_no_edit() {
    let meanwhile = [Act::SetEnabled(0, true), Act::Register(0, 0)];
    let script = meanwhile.map(Interruption::Act).into();
    let ops = [
        Op::Act(Act::Register(0, 0)),
        Op::Step(true, vec![]),
        Op::Act(Act::SetEnabled(0, false)),
        Op::Step(true, script),
    ];
    Run::settled(&ops).unwrap();
}

/// Guards against a write without an answer that passed for an edit, once somebody had saved it.
#[test]
fn a_write_without_an_answer_that_is_saved_is_no_edit() {
    let mut run = Run::new();
    run.take_all(&[
        Op::Act(Act::Register(0, 1)),
        Op::Rest,
        Op::Act(Act::SetEnabled(0, false)),
        Op::Step(true, vec![Interruption::None, Interruption::LostAfter]),
        Op::Act(Act::SetEnabled(0, true)),
        Op::Act(Act::Save(0, false)),
        Op::Rest,
    ]);
    run.check().unwrap();
}

/// Guards against an edit that passed for a write which another session had lost.
#[test]
fn an_edit_that_is_saved_is_none_of_a_session_that_is_over() {
    let mut run = Run::new();
    run.take_all(&[
        Op::Act(Act::Register(0, 1)),
        Op::Rest,
        Op::Act(Act::SetEnabled(0, false)),
        Op::Step(true, vec![Interruption::None, Interruption::LostBefore]),
        Op::Act(Act::SetEnabled(0, true)),
        Op::Expire,
        Op::Step(true, vec![]),
        Op::Act(Act::Edit(0, false, false)),
        Op::Act(Act::Save(0, false)),
        Op::Rest,
    ]);
    assert_eq!(run.world.desired.switched(&path(0)), Some(false));
}

/// Guards against an edit that went with the node of one that its check takes out.
#[test]
fn an_edit_of_one_that_leaves_for_its_check_is_kept() {
    let mut run = Run::new();
    run.take_all(&[
        Op::Act(Act::Register(0, 1)),
        Op::Rest,
        Op::Act(Act::Edit(0, false, true)),
        Op::Act(Act::Sick(0, Some(WhenSick::Leave))),
        Op::Rest,
    ]);
    run.check().unwrap();
    run.take(&Op::Act(Act::Sick(0, None)));
    run.settle();
    run.check().unwrap();
}
