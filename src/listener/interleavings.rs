//! A listener and those who change what it listens to, in thousands of orders: each state it is told is newer than the
//! one before, and the last one is told.

use super::*;
use shuttle::thread;

const ORDERS: usize = 3000;

/// The state that is listened to, and the last of it that was told.
struct World {
    state: Mutex<usize>,
    told: Mutex<Vec<usize>>,
    listener: Listener,
}

impl World {
    fn new() -> Arc<World> {
        Arc::new(World {
            state: Mutex::default(),
            told: Mutex::default(),
            listener: Listener::default(),
        })
    }

    fn change(&self) {
        *self.state.lock() += 1;
        self.listener.mark();
    }

    /// Listens until `last` was told, or the listener is closed.
    fn listen(&self, last: usize) {
        let mut known = None;
        let look = || {
            let state = *self.state.lock();
            let is_new = known.replace(state) != Some(state);
            Look {
                news: is_new.then_some(state),
                again: None,
                is_final: state == last,
            }
        };
        self.listener
            .run(look, |news| self.told.lock().push(news), "it");
    }
}

#[test]
fn a_listener_is_told_the_last_state_and_none_twice_or_backwards() {
    shuttle::check_random(
        || {
            let world = World::new();
            let changing = (0..3).map(|_| {
                let world = world.clone();
                thread::spawn(move || (0..2).for_each(|_| world.change()))
            });
            let changing: Vec<_> = changing.collect();
            let listening = world.clone();
            // It would wait for ever where a change was missed: the scheduler says so.
            let listening = thread::spawn(move || listening.listen(6));
            changing.into_iter().for_each(|one| one.join().unwrap());
            listening.join().unwrap();
            let told = world.told.lock();
            assert!(told.is_sorted_by(|one, next| one < next), "{:?}", *told);
            assert_eq!(told.last(), Some(&6));
        },
        ORDERS,
    );
}

#[test]
fn a_listener_that_is_closed_ends_whatever_changes_meanwhile() {
    shuttle::check_random(
        || {
            let world = World::new();
            let (listening, changing) = (world.clone(), world.clone());
            let listening = thread::spawn(move || listening.listen(usize::MAX));
            let changing = thread::spawn(move || (0..3).for_each(|_| changing.change()));
            world.listener.close();
            listening.join().unwrap();
            changing.join().unwrap();
        },
        ORDERS,
    );
}
