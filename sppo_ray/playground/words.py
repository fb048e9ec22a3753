"""The facts of the playground: opposites, colours, sounds, and so on.

In: nothing. Out: tables of words; the rest of the package reads them.
"""

OPPOSITES = dict(
    pair.split("-")
    for pair in (
        "hot-cold big-small tall-short fast-slow old-young happy-sad light-dark hard-soft wet-dry full-empty rich-poor "
        "strong-weak loud-quiet clean-dirty early-late high-low near-far open-closed thick-thin sharp-blunt "
        "sweet-sour smooth-rough deep-shallow narrow-wide"
    ).split()
)
OPPOSITES |= {right: left for left, right in OPPOSITES.items()}

THINGS_OF_COLOUR = {
    "green": "grass, a leaf, a frog, an emerald, a cucumber",
    "white": "snow, milk, salt, a swan, a cloud",
    "black": "coal, a crow, tar, a raven",
    "yellow": "a banana, a lemon, the sun, butter",
    "red": "blood, a tomato, a ruby, a cherry",
    "orange": "a carrot, a pumpkin, an apricot",
    "brown": "chocolate, a bear, coffee, mud",
    "blue": "the sky, the sea, a sapphire",
    "grey": "an elephant, a mouse, ash, a shark",
    "pink": "a pig, a flamingo, a salmon",
}
COLOURS = {thing: colour for colour, things in THINGS_OF_COLOUR.items() for thing in things.split(", ")}

SOUNDS = dict(
    pair.split("-")
    for pair in (
        "dog-barks cat-meows cow-moos horse-neighs sheep-bleats pig-grunts duck-quacks lion-roars wolf-howls "
        "snake-hisses bee-buzzes owl-hoots frog-croaks crow-caws mouse-squeaks hen-clucks donkey-brays turkey-gobbles "
        "elephant-trumpets sparrow-chirps monkey-chatters dove-coos bear-growls"
    ).split()
)

YOUNG = dict(
    pair.split("-")
    for pair in (
        "dog-puppy cat-kitten cow-calf horse-foal sheep-lamb pig-piglet goat-kid bear-cub duck-duckling hen-chick "
        "frog-tadpole deer-fawn goose-gosling swan-cygnet kangaroo-joey owl-owlet eel-elver hare-leveret "
        "fish-fry seal-pup"
    ).split()
)

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

KINDS = {
    kind: members.split()
    for kind, members in {
        "animals": "cat dog horse cow sheep goat lion wolf",
        "fruits": "apple pear plum grape peach melon mango fig",
        "colours": "red green blue yellow black white brown pink",
        "tools": "hammer saw drill wrench chisel pliers axe spade",
        "trees": "oak pine birch elm maple willow beech fir",
        "metals": "iron gold silver copper tin lead zinc nickel",
        "instruments": "piano violin flute drum harp cello guitar tuba",
        "clothes": "coat hat shirt scarf sock shoe glove belt",
        "furniture": "chair table bed desk sofa shelf bench stool",
        "drinks": "water milk tea coffee juice cocoa beer wine",
        "vegetables": "onion potato leek cabbage bean pea spinach carrot",
        "vehicles": "car bus train bike ship truck tram van",
    }.items()
}
NUMBERS = {"two": 2, "three": 3, "four": 4}

NAMES = (
    "Anna Ben Clara David Emma Felix Greta Hugo Ivy Jonas Karin Leo Maria Nina Oscar Paula Rosa Simon Tina Victor "
    "Wanda Yusuf Zoe Carlos"
).split()
GREETINGS = ("hello", "goodbye", "thanks", "welcome")
