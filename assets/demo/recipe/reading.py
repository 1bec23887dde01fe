"""Reading items: questions whose answer stands in their context.

The world is invented: names of people, germs and organs are made of syllables, so nothing can be known, only read.
One item in three has one sentence; the others have two of the same kind, and the one not asked for gives a wrong
option.
"""

ONSETS = "b d f g k l m n p r s t v z br dr gr kr pl st tr".split()
VOWELS = "a e i o u".split()
CODAS = ["", "", "", "l", "m", "n", "r", "s", "x", "th"]

PEOPLE = """baker miller farmer doctor nurse teacher sailor hunter painter singer weaver smith king queen boy girl
    student pilot cook guard potter writer dancer judge clerk driver tailor gardener shepherd fisher""".split()
ANIMALS = """fox bear wolf horse goat sheep cow dog cat hen duck goose owl crow frog snake mouse rat bee ant spider
    crab snail turtle rabbit deer pig camel seal whale""".split()
PLACES = """mill barn tower kitchen cellar garden forest harbor market bridge castle school cave lake island hill
    valley meadow river desert station hut well tent library church field attic shed beach""".split()
THINGS = """lamp rope key bell book drum knife spoon cup basket ladder wheel hammer needle mirror coin map ring clock
    box chair table bottle blanket candle button letter ribbon bucket comb""".split()
FOODS = """bread honey milk cheese apples soup rice beans eggs butter nuts berries carrots onions potatoes plums pears
    salt tea jam maize oats grapes figs cabbage garlic fish mushrooms pepper cream""".split()
COLORS = "red blue green yellow white black brown gray pink purple orange silver".split()
MATERIALS = "wood stone iron clay glass wool silk paper leather copper bone wax sand straw cotton ice".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMBERS = "two three four five six seven eight nine ten eleven twelve twenty thirty forty".split()
SOUNDS = "song whistle drum horn bell clap shout hum knock rattle".split()
SIGNS = ["fever", "cough", "rash", "headache", "weak legs", "cold hands", "a dry mouth", "loss of smell", "red eyes",
         "yellow skin", "a fast pulse", "a swollen foot", "deep sleep", "poor vision", "a stiff neck", "pale lips"]
STATES = ["blood sugar", "body heat", "the heart rate", "sleep", "hunger", "thirst", "growth", "fear", "blood pressure",
          "the sense of smell", "memory", "skin color"]


def word(rng, syllables=2):
    """An invented word."""
    return "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))


def listed(words):
    return lambda rng: rng.choice(words)


def joined(first, second):
    return lambda rng: f"{first(rng)} {second(rng)}"


def invented(tail="", syllables=2):
    return lambda rng: word(rng, syllables) + tail


def name(rng):
    return word(rng).capitalize()


person, animal, place, thing, food = map(listed, (PEOPLE, ANIMALS, PLACES, THINGS, FOODS))
color, material, day, number = map(listed, (COLORS, MATERIALS, DAYS, NUMBERS))
sound, sign, state = map(listed, (SOUNDS, SIGNS, STATES))

# What is asked about, what is answered, sentences, questions. Every sentence goes with every question of its row.
PATTERNS = [
    (person, place,
     ["The {s} sleeps in the {a}.", "In the {a} sleeps the {s}.", "The {a} is where the {s} sleeps."],
     ["Where does the {s} sleep?", "The {s} sleeps in which place?", "What is the place in which the {s} sleeps?"]),
    (thing, joined(color, listed(["box", "bag", "chest", "jar", "drawer", "basket"])),
     ["The {s} lies in the {a}.", "In the {a} lies the {s}.", "The {a} holds the {s}."],
     ["Where does the {s} lie?", "The {s} lies in what?", "What holds the {s}?"]),
    (joined(color, thing), person,
     ["The {s} belongs to the {a}.", "The {a} owns the {s}.", "The owner of the {s} is the {a}."],
     ["Who owns the {s}?", "The {s} belongs to whom?", "Who is the owner of the {s}?"]),
    (name, food,
     ["{s} eats only {a}.", "Only {a} is what {s} eats.", "For each meal {s} eats {a}."],
     ["Which food does {s} eat?", "What does {s} eat?", "The food that {s} eats is what?"]),
    (animal, food,
     ["The {s} is fed with {a}.", "They feed the {s} with {a}.", "With {a} the {s} is fed."],
     ["With which food is the {s} fed?", "The {s} is fed with what?", "What do they feed the {s} with?"]),
    (name, animal,
     ["{s} rides on the {a}.", "On the back of the {a} rides {s}.", "The {a} carries {s}."],
     ["Which animal carries {s}?", "{s} rides on which animal?", "What animal does {s} ride?"]),
    (place, animal,
     ["The {s} is guarded by the {a}.", "The {a} guards the {s}.", "The guard of the {s} is the {a}."],
     ["Which animal guards the {s}?", "The {s} is guarded by which animal?", "What is the guard of the {s}?"]),
    (thing, material,
     ["The {s} is made of {a}.", "They made the {s} of {a}.", "Of {a} the {s} is made."],
     ["Of which material is the {s} made?", "The {s} is made of what?", "What is the {s} made of?"]),
    (place, color,
     ["The gate of the {s} is {a}.", "The {s} has a gate that is {a}.", "They painted the gate of the {s} {a}."],
     ["Which color is the gate of the {s}?", "The gate of the {s} has what color?",
      "What is the color of the gate of the {s}?"]),
    (person, day,
     ["The {s} visits the town on {a}.", "On {a} the {s} visits the town.", "{a} is when the {s} visits the town."],
     ["On which day does the {s} visit the town?", "When does the {s} visit the town?",
      "The {s} visits the town on which day?"]),
    (name, number,
     ["{s} has {a} ships.", "The ships of {s} are {a}.", "The number of ships that {s} has is {a}."],
     ["How many ships does {s} have?", "What is the number of ships that {s} has?", "{s} has how many ships?"]),
    (animal, sound,
     ["The {s} comes at the sound of the {a}.", "At the sound of the {a} comes the {s}.",
      "The sound of the {a} calls the {s}."],
     ["Which sound calls the {s}?", "The {s} comes at the sound of what?", "What makes the {s} come?"]),
    (person, thing,
     ["The {s} lost the {a}.", "The {a} was lost by the {s}.", "The {s} cannot find the {a}."],
     ["What did the {s} lose?", "Which thing was lost by the {s}?", "The {s} lost which thing?"]),
    (person, joined(color, thing),
     ["The {s} bought the {a}.", "The {a} was bought by the {s}.", "At the market the {s} bought the {a}."],
     ["What did the {s} buy?", "Which thing was bought by the {s}?", "The {s} bought what?"]),
    (person, joined(listed(["north", "south", "east", "west", "upper", "lower"]), place),
     ["The {s} works in the {a}.", "In the {a} works the {s}.", "The work of the {s} is in the {a}."],
     ["Where does the {s} work?", "The {s} works in which place?", "In what place does the {s} work?"]),
    (invented(" fever"), invented(" worm"),
     ["The {a} causes {s}.", "{S} is caused by the {a}.", "The cause of {s} is the {a}."],
     ["Which worm causes {s}?", "{S} is caused by which worm?", "What is the cause of {s}?"]),
    (invented(" fever"), invented(" root"),
     ["The {a} heals {s}.", "{S} is healed with the {a}.", "The cure of {s} is the {a}."],
     ["Which root heals {s}?", "{S} is healed with which root?", "What is the cure of {s}?"]),
    (invented(" disease"), sign,
     ["The first sign of {s} is {a}.", "{S} starts with {a}.", "{S} brings {a} on the first day."],
     ["What is the first sign of {s}?", "{S} starts with which sign?", "Which sign shows the start of {s}?"]),
    (invented(" bone"), invented(" bone"),
     ["The {s} joins the {a}.", "The {a} is joined to the {s}.", "The {s} meets the {a} at a joint."],
     ["Which bone is joined to the {s}?", "The {s} joins which bone?", "At a joint the {s} meets what?"]),
    (invented(" organ"), invented(" nerve"),
     ["The {a} supplies the {s}.", "The {s} is supplied by the {a}.", "The {s} gets signals from the {a}."],
     ["Which nerve supplies the {s}?", "The {s} is supplied by which nerve?", "What nerve sends signals to the {s}?"]),
    (invented(" gland"), invented("in", 2),
     ["The {s} makes {a}.", "{A} is made by the {s}.", "The hormone of the {s} is {a}."],
     ["Which hormone does the {s} make?", "The {s} makes which hormone?", "What is the hormone of the {s}?"]),
    (invented("in"), state,
     ["The hormone {s} raises {a}.", "{A} is raised by the hormone {s}.", "More of the hormone {s} raises {a}."],
     ["What does the hormone {s} raise?", "The hormone {s} raises what?", "What is raised by the hormone {s}?"]),
    (invented(" tree"), joined(color, listed(["leaves", "seeds", "flowers", "fruit", "roots", "bark"])),
     ["The {s} is known by its {a}.", "People know the {s} by its {a}.", "The mark of the {s} is its {a}."],
     ["What is the mark of the {s}?", "The {s} is known by what?", "By what do people know the {s}?"]),
    (invented(" cell"), invented(" fiber"),
     ["The {s} contains the {a}.", "The {a} is found in the {s}.", "Inside the {s} lies the {a}."],
     ["Which fiber does the {s} contain?", "The {s} contains which fiber?", "What fiber is found in the {s}?"]),
    (name, name,
     ["The child of {s} is called {a}.", "{a} is the child of {s}.", "{s} has one child, {a}."],
     ["Who is the child of {s}?", "{s} has a child with which name?", "What is the child of {s} called?"]),
]


def distinct(kind, n, rng, taken=()):
    """`n` different words of a kind, none of them taken."""
    found = []
    while len(found) < n:
        new = kind(rng)
        if new not in found and new not in taken:
            found.append(new)
    return found


def item(rng, answer):
    """Context, question and options of one item, its right option at place `answer`."""
    subject, kind, sentences, questions = rng.choice(PATTERNS)
    subjects = distinct(subject, 2, rng)
    options = distinct(kind, 4, rng, subjects)

    def fill(text, i):
        s, a = subjects[i], options[i]
        return text.format(s=s, a=a, S=capital(s), A=capital(a))

    told = [0] if rng.random() < 1 / 3 else rng.sample([0, 1], 2)
    context = " ".join(capital(fill(rng.choice(sentences), i)) for i in told)
    question = capital(fill(rng.choice(questions), 0))
    right, *wrong = options
    rng.shuffle(wrong)
    wrong.insert(answer, right)
    return context, question, wrong


def capital(text):
    return text[0].upper() + text[1:]
