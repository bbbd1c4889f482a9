"""Launches: how a challenger gets from its first request to champion, and back.

- `plan`: what is declared: the stages, what each asks for, and what happens when something goes wrong;
- `state`: where each challenger is, as the experiment's document keeps it;
- `launching`: an experiment with its launch, and what moves are made of;
- `moves`: every change of that state, with its rules;
- `shares`: who gets how much, and whether there is room for one step more;
- `shadow_id`: the ids of what arms see in shadow;
- `mirroring`: how far an arm in shadow has come;
- `claims`: how far the evidence about a challenger is;
- `gates`: what a step asks for, and what keeps a challenger from moving;
- `rulings`: what a launch does after a look;
- `rules`: what a plan must keep to.

Nothing here reads a clock, facts or a database: `server.services.launch` looks, and makes the moves.
"""
