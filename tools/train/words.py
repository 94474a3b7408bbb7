"""Word lists of the training tasks. Short, common words, so that nearly all become one token."""

NAMES = """Tom Anna Ben Clara David Emma Frank Grace Henry Iris Jack Kate Leo Maria Noah Olga Paul Rosa
Sam Tina Victor Wendy Alice Bruno Carl Dora""".split()
FEMALE = set("Anna Clara Emma Grace Iris Kate Maria Olga Rosa Tina Wendy Alice Dora".split())

THINGS = """apples books coins stamps shells cards pens marbles stones tickets cups keys eggs boxes balls
plates letters pictures bottles flowers buttons cookies pears hats""".split()

ADJECTIVES = """red blue green white black silver golden wooden old new small large round square quiet
bright dark heavy light tall broken hidden empty narrow wide soft sharp plain royal distant""".split()

NOUNS = """lantern river bridge tower garden castle harbor mirror basket violin hammer ladder window
kettle barrel wagon temple statue engine island forest valley market station library cabinet compass
anchor candle carpet curtain desk drawer fountain gate helmet jacket knife lamp map needle oven parcel
quilt ring saddle table umbrella vase well yacht bell crown drum""".split()

COLORS = """red blue green white black yellow orange purple brown gray pink silver""".split()

# Words of the list and string tasks; each also has an upper-case token.
PLAIN = """apple bread chair door eagle field glass house ice juice king lemon moon night ocean paper queen
rain snow tree uncle voice water yard zebra bird cloud dog earth fire goat hill iron jar kite leaf milk
nest owl pond road ship train wall wind box cat boat fish salt star stone sugar tea wolf wheel""".split()

LETTERS = "a b c d e f g h i j k l m n o p q r s t u v w x y z".split()

CITIES = """London Paris Oslo Rome Berlin Madrid Vienna Tokyo Lisbon Dublin Prague Athens Cairo Delhi Lima
Seoul Boston Chicago Toronto Sydney""".split()

# The filler of long contexts: sentences that plant nothing. {p}: people, {v}: did, {a}: at, {w}: when.
FILLER_WHO = """The farmer|The teacher|A young sailor|The baker|An engineer|The old doctor|A painter|The
captain|My neighbor|The children|Two travelers|The singer|A soldier|The students|The mayor|A writer""".replace("\n", " ").split("|")
FILLER_DID = """walked slowly|waited for the others|talked about the weather|slept for an hour|told a long
story|looked at the sky|sang a quiet song|counted the birds|wrote a short letter|ate some warm soup|read
the morning news|repaired the fence|took many notes|laughed at the joke|made fresh coffee|watched the
rain|closed the shop|planned the next trip""".replace("\n", " ").split("|")
FILLER_WHERE = """near the lake|at the corner|in the village|behind the church|on the hill|beside the
road|by the sea|in the kitchen|under the trees|along the path|at the school|in the city""".replace("\n", " ").split("|")
FILLER_WHEN = """before sunrise|in the afternoon|on Monday|last winter|after lunch|all day|in the evening|at
noon|on Friday|during the summer|late at night|after the meeting""".replace("\n", " ").split("|")
