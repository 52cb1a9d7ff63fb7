"""The words that `demo_rows.py` puts around and into the core messages. All people and shops are invented.

None of these may hint at a label: every list is used for every class alike.
"""

FIRST_NAMES = (
    "Aaron Abena Adele Aisha Alan Alastair Alice Amara Amir Ana Angus Anika Anton Beatrix Ben Bernard Bilal Bridget "
    "Callum Carys Cedric Chidi Chloe Clara Colin Connor Cyril Dafydd Daisy Daniela Deepak Della Dennis Dilys Dmitri Dora "
    "Edith Edwin Eileen Elias Elif Ellen Emeka Enid Erik Esme Ewan Farah Felix Femi Fergus Fiona Florian Freya Gareth "
    "Gemma Gita Glenys Gordon Grace Gustav Hamza Hanna Harriet Hector Hilda Hugo Ibrahim Ines Ingrid Iris Ivan Jamal "
    "Janet Jasper Joan Jonas Joyce Julian Kamala Karim Kasia Keith Kiran Kwame Lars Leila Lena Leroy Lina Lorna Lucia "
    "Magnus Maisie Malik Manuel Marek Margot Maud Maya Mei Mervyn Milan Mina Mohan Moira Nadia Nasir Neil Nora Nuala "
    "Olga Olive Omar Oscar Owen Padma Parvati Pavel Pearl Petra Phyllis Priya Quentin Rafael Ravi Renata Rhys Rita "
    "Rohan Rosa Ruth Salma Samir Sandra Sean Selma Shirin Simone Sofia Stefan Sunita Sven Tamsin Tariq Tessa Theo Tilda "
    "Tobias Tomasz Una Uma Vera Viktor Wanda Wilfred Winnie Yasmin Yusuf Zara Zofia"
).split()
LAST_NAMES = (
    "Abbott Adeyemi Ainsworth Akhtar Amsel Anand Arkwright Ashdown Baines Balogun Barlow Bassey Beckett Bergstrom "
    "Blackwood Bose Brannigan Brockway Calloway Cartmell Chaudhry Clegg Copeland Crabtree Dalgleish Danjuma Darby "
    "Dhillon Dobson Drummond Dunleavy Eastwood Eklund Ellery Emmerson Fairhurst Farrow Fennell Figueroa Finch Foxley "
    "Galbraith Garside Ghosh Gilchrist Gosling Greenhalgh Haddad Halloran Hartigan Haworth Heron Hollis Hossain Huxtable "
    "Iqbal Jagger Janssen Kapoor Kavanagh Keating Kershaw Kowalski Lambourne Langley Larkin Lindqvist Lockhart Lomax "
    "Malhotra Marchetti Marlow Mbeki McAllister Mellor Mistry Moreau Mulligan Nakamura Nettleton Nowak Nwosu Oduya "
    "Okafor Oldroyd Ormerod Osborne Pargeter Pereira Pickering Popescu Prentice Quigley Rahman Ramsbottom Redfern Ridley "
    "Rosenberg Rushworth Sandhu Sedgwick Shackleton Silva Sinclair Skelton Sorensen Stainton Tamworth Tattersall Thackray "
    "Tiwari Trelawny Underhill Vasquez Verma Wainwright Walmsley Wetherby Whittaker Winterbourne Yardley Zielinski"
).split()
CITIES = (
    "Aberdeen Antwerp Athens Bath Belfast Bergen Berlin Birmingham Bologna Bradford Brighton Bristol Bruges Budapest Cardiff "
    "Carlisle Chester Cologne Copenhagen Cork Coventry Derby Dublin Dundee Durham Edinburgh Exeter Faro Galway Geneva Ghent "
    "Glasgow Gloucester Granada Hamburg Hereford Hull Inverness Ipswich Krakow Lancaster Leeds Leicester Lille Limerick "
    "Lincoln Lisbon Liverpool Ljubljana Luton Lyon Madrid Malaga Manchester Marseille Milan Munich Nantes Naples Newcastle "
    "Newport Norwich Nottingham Oslo Oxford Paris Perth Plymouth Porto Prague Preston Riga Rotterdam Salford Seville "
    "Sheffield Southampton Stirling Stockport Sunderland Swansea Swindon Tallinn Truro Turin Utrecht Valencia Verona Vienna "
    "Vilnius Wakefield Warsaw Wigan Wolverhampton Worcester York Zurich"
).split()
STREETS = (
    "Acacia Alder Ashgrove Balmoral Beacon Beech Bramble Brunswick Canal Cedar Chapel Chestnut Church Clifton Coppice "
    "Crescent Dale Elm Fairfield Ferry Forge Garden Gladstone Glebe Grange Harbour Hawthorn Hazel Heath Highfield Hill "
    "Holly Kiln Larch Laurel Linden Lower Maple Market Meadow Mill Mitre Moor North Oak Orchard Park Pine Priory Quarry "
    "Queens Rectory River Rowan School Sefton South Spring Station Stoney Sycamore Thornhill Tithe Upper Victoria Walnut "
    "Wellington West Willow Windmill Yew"
).split()
STREET_KINDS = ("Road", "Street", "Lane", "Avenue", "Close", "Drive", "Terrace", "Gardens", "Row", "Way", "Rd", "St")
POSTCODE_AREAS = (
    "AB BA BD BN BS CF CH CV DE DH DL DN EH EX GL HD HR IP LA LE LN LS NE NG NR OX PL PR SA SK SN TR WF YO".split()
)
MERCHANT_HEADS = (
    "Alderway Amberline Applecart Arbutus Argosy Bellweather Birchfield Bluefinch Bramwell Brightside Bytecove Calyx "
    "Candleford Cinderhill Clovermart Copperpot Corvane Daleside Dovecote Drift Elmtree Everglow Fablehouse Fernway "
    "Firebrick Foxglove Gadgetry Gillyflower Goldcrest Greenlark Halcyon Harvest Hearthstone Honeydew Inkwell Ivybridge "
    "Juniper Kestrel Kitely Lanternfish Larkspur Lumina Maplewick Marigold Meridian Moonraker Nettlebed Northgate "
    "Novastream Oakhurst Orbitel Otterburn Pebble Pinecone Pixelbay Primrose Quayside Quillon Ravenhill Redkite Rookery "
    "Saffron Seabright Silverleaf Skylane Sparrow Starling Stonecrop Sundial Swiftly Tamarind Thistle Topaz Tradewind "
    "Umberco Velora Verdant Wavelet Whistler Wickerman Wildrose Woodpecker Yarrow Zephyr"
).split()
MERCHANT_TAILS = (
    "Stores", "Electronics", "Travel", "Motors", "Outdoors", "Sports", "Online", "Games", "Foods", "Fashion", "Direct",
    "Kitchens", "Garden Centre", "Pharmacy", "Telecom", "Tickets", "Books", "Holidays", "Fitness", "Ltd", "& Sons",
    "Insurance", "Media", "Hotel", "Cafe", "", "", "",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MAIL_NAMES = ("example.com", "example.org", "example.net", "mail.example", "post.example", "inbox.example")

GREETINGS = (
    "Hello,", "Hi,", "Hi there,", "Dear Sir or Madam,", "Dear team,", "Good morning,", "Good afternoon,", "Good evening,",
    "To whom it may concern,", "Hello bank,", "Dear bank,", "Hiya,", "Hey,", "Hi all,", "Dear Sirs,", "Morning,", "Hello there.",
    "hi", "hello", "Dear customer service,", "Greetings,", "Dear {first},", "Hi {first},", "Hello again,", "Hey there,",
)  # fmt: skip
SIGN_OFFS = (
    "Thanks", "Thank you", "Many thanks", "Kind regards", "Best wishes", "Regards", "Yours faithfully", "Cheers", "Thx",
    "Thanks in advance", "Yours sincerely, {name}", "Regards, {name}", "{name}", "{first}", "Thank you, {first}",
    "Best, {first}", "Kind regards, {name}", "Thanks, {first} {last_initial}.", "With kind regards, {name}", "Warm regards",
    "Thank you for your help.", "Ta", "Yours, {name}", "{name}, account {account}", "Sent from my phone", "{first} x",
)  # fmt: skip
EXTRAS = (
    "I have banked with you since {year}.", "My account number is {account}.", "You can reach me on {phone}.",
    "My email is {email}.", "I am at work until five.", "Sorry for the long message.", "I am not very good with computers.",
    "I have been a customer for years.", "The app is on my phone, if that matters.", "I live in {city}.",
    "I tried the phone line but the queue was long.", "The chat told me to write here.", "I hope this is the right address.",
    "Please answer by email.", "Please call after {time}.", "I am writing for the first time.", "My postcode has not changed.",
    "I already looked at the help pages.", "English is not my first language.", "I usually go to the branch in {city}.",
    "It is a current account.", "It is a joint account with my husband.", "It is a joint account with my wife.",
    "My reference is {reference}.", "I can come to the branch on {weekday}.", "I prefer letters to phone calls.",
    "Hope you are all well.", "I wrote about something else last month.", "The weather is dreadful here.",
    "I only have a few minutes.", "I am typing this on the bus.", "Excuse my spelling.", "I need an answer in writing.",
    "My date of birth is {date} {birth_year}.", "I have the card ending {last4}.", "I also have a savings account with you.",
    "My daughter helps me with emails.", "I am not sure which department handles this.", "I could not find this on your website.",
    "The branch near me has closed.", "I am free most afternoons.", "I will be at home on {weekday}.", "Ring me on {phone}.",
    "My address is {address}.", "The account is in my name, {name}.", "I have the app and the card.", "It is {time} now.",
    "I am away from {date}.", "I have two accounts with you.", "I spoke to {first} at the branch.", "I have my glasses on now.",
    "Please do not call before nine.", "This is my work email.", "I am on the train to {city}.", "I use a screen reader.",
    "I thought I would write rather than ring.", "Let me know what you need from me.", "Please pass this to the right team.",
    "I saw your address on the back of the card.", "My mobile is {phone}.", "I am not in a hurry to chat.",
)  # fmt: skip
CONTRACTIONS = (
    ("I am", "I'm"), ("I have", "I've"), ("do not", "don't"), ("did not", "didn't"), ("cannot", "can't"), ("is not", "isn't"),
    ("was not", "wasn't"), ("I will", "I'll"), ("I would", "I'd"), ("it is", "it's"), ("It is", "It's"), ("have not", "haven't"),
    ("has not", "hasn't"), ("would not", "wouldn't"), ("could not", "couldn't"), ("that is", "that's"), ("does not", "doesn't"),
    ("they are", "they're"), ("you are", "you're"), ("will not", "won't"), ("he is", "he's"), ("she is", "she's"),
)  # fmt: skip
SYNONYMS = (
    ("phone", "mobile"), ("purse", "wallet"), ("wallet", "purse"), ("mum", "mother"), ("mother", "mum"), ("dad", "father"),
    ("father", "dad"), ("brother", "cousin"), ("sister", "cousin"), ("son", "nephew"), ("daughter", "niece"),
    ("nan", "gran"), ("cafe", "pub"),
    ("shop", "store"), ("supermarket", "corner shop"), ("train", "coach"), ("bus", "tram"), ("payment", "transaction"),
    ("payments", "transactions"), ("bought", "purchased"), ("rang", "phoned"), ("website", "site"),
    ("email", "e-mail"), ("text", "SMS"), ("letter", "note"), ("laptop", "computer"), ("money", "cash"),
    ("yesterday", "last night"), ("this morning", "this afternoon"), ("last week", "last month"), ("today", "this morning"),
    ("neighbour", "lodger"), ("holiday", "trip"), ("bank card", "debit card"),
    ("statement", "bank statement"), ("told", "informed"), ("asked", "requested"), ("please", "kindly"), ("Please", "Kindly"),
    ("kids", "children"), ("car", "van"), ("house", "flat"), ("flat", "house"), ("gym", "club"), ("buy", "purchase"),
    ("get", "obtain"), ("started", "began"), ("cash machine", "ATM"), ("ATM", "cash machine"), ("pounds", "quid"),
)  # fmt: skip
KEY_NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi",
    "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}  # fmt: skip
