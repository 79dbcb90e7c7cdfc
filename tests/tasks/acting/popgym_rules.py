"""The games of POPGym in plain Python, with lists, one card at a time.

Each function takes the cards in the order in which they are dealt, and the actions. It yields the
observation, the reward and the end after each action. Kinds are numbers, and so are observations.
"""

import math

FACE_DOWN = -1


def repeat_previous(deck, actions, k):
    hand, rest = [deck[0]], list(deck[1:])
    for action in actions:
        reward = 0
        if len(hand) >= k:
            reward = (1 if action == hand[-k] else -1) / (len(deck) - k)
        hand.append(rest.pop(0))
        yield [hand[-1]], reward, not rest


def repeat_first(deck, actions):
    rest = list(deck[1:])
    for action in actions:
        yield [rest.pop(0)], (1 if action == deck[0] else -1) / (len(deck) - 1), not rest


def autoencode(deck, actions):
    """The first number of an observation is 1 while the agent watches."""
    seen, rest = [deck[0]], list(deck[1:])
    for action in actions:
        if rest:
            seen.append(rest.pop(0))
            yield [1 if rest else 0, seen[-1]], 0, False
        else:
            correct = action == seen.pop()
            yield [0, 0], (1 if correct else -1) / len(deck), not seen


def count_recall(cards, queries, actions):
    counts, query = [0] * (max(cards) + 1), queries[0]
    counts[cards[0]] += 1
    for number, action in enumerate(actions, 1):
        reward = (1 if action == counts[query] else -1) / (len(cards) - 1)
        counts[cards[number]] += 1
        query = queries[number]
        yield [cards[number], query], reward, number + 1 == len(cards)


def concentration(layout, actions):
    """An observation has the kind at each place, or FACE_DOWN."""
    size = len(layout)
    limit = math.ceil(2 * size - size / (2 * size - 1))
    open_for_good, turn = [], []
    for number, place in enumerate(actions, 1):
        turn.append(place)
        visible = {*open_for_good, *turn}
        seen = [kind if i in visible else FACE_DOWN for i, kind in enumerate(layout)]
        reward = 0
        if place in open_for_good:
            reward, turn = -len(turn) / limit, []
        elif len(turn) == 2:
            one, other = turn
            if one != other and layout[one] == layout[other]:
                reward = 2 / size
                open_for_good += turn
            else:
                reward = -2 / limit
            turn = []
        yield seen, reward, len(open_for_good) == size or number == limit


def t_maze(goal, actions, length, behind):
    """The T-maze of Ni et al. 2023: the start is `behind` steps from the sign."""
    free = {(x, 0) for x in range(behind + length + 1)}
    free |= {(behind + length, side) for side in (1, -1)}
    place, told = (behind, 0), behind == 0
    for time, action in enumerate(actions, 1):
        dx, dy = [(1, 0), (0, 1), (-1, 0), (0, -1)][action]
        if (place[0] + dx, place[1] + dy) in free:
            place = place[0] + dx, place[1] + dy
        if place[0] == behind + length:
            seen = [1, place[1]]
        else:
            seen = [0, goal if place[0] == 0 and not told else 0]
        told = told or place[0] == 0
        done = time == length + 2 * behind + 1
        late = place[0] < time - behind
        yield seen, (place[1] == goal) if done else -late / length, done
