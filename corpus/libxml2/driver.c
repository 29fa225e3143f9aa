/* libxml2, kept busy; see ../driver.h. */
#include "../driver.h"

#include <libxml/HTMLparser.h>
#include <libxml/HTMLtree.h>
#include <libxml/c14n.h>
#include <libxml/catalog.h>
#include <libxml/debugXML.h>
#include <libxml/parser.h>
#include <libxml/pattern.h>
#include <libxml/relaxng.h>
#include <libxml/schematron.h>
#include <libxml/tree.h>
#include <libxml/xinclude.h>
#include <libxml/xmlreader.h>
#include <libxml/xmlschemas.h>
#include <libxml/xmlwriter.h>
#include <libxml/xpath.h>

static const char document[] =
    "<?xml version='1.0'?>\n<!DOCTYPE list [<!ELEMENT list (item*)><!ELEMENT item (#PCDATA)>\n"
    "<!ATTLIST item id ID #IMPLIED kind (a|b) 'a'><!ENTITY e 'entity'>]>\n"
    "<list><item id='i1'>one &e;</item><item id='i2' kind='b'>two &lt; 3</item><item>\xc3\xbc &#8364;</item></list>";

static const char schema[] =
    "<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema'><xs:element name='list'><xs:complexType><xs:sequence>"
    "<xs:element name='item' maxOccurs='unbounded'><xs:complexType><xs:simpleContent><xs:extension base='xs:string'>"
    "<xs:attribute name='id' type='xs:ID'/><xs:attribute name='kind' type='xs:string'/></xs:extension></xs:simpleContent>"
    "</xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element></xs:schema>";

static const char relax[] =
    "<element name='list' xmlns='http://relaxng.org/ns/structure/1.0'><oneOrMore><element name='item'>"
    "<optional><attribute name='id'/></optional><optional><attribute name='kind'/></optional><text/></element></oneOrMore>"
    "</element>";

static void quiet(void *context, const char *format, ...) {
    (void)context;
    (void)format;
}

static void note_document(xmlDocPtr doc) {
    xmlChar *text = NULL;
    int size = 0;
    xmlDocDumpFormatMemory(doc, &text, &size, 1);
    note(text, (size_t)size);
    xmlFree(text);
    xmlC14NDocDumpMemory(doc, NULL, XML_C14N_1_0, NULL, 1, &text);
    note_text((const char *)text);
    xmlFree(text);
}

static void note_xpath(xmlDocPtr doc, const char *expression) {
    xmlXPathContextPtr context = xmlXPathNewContext(doc);
    xmlXPathObjectPtr object = xmlXPathEvalExpression(BAD_CAST expression, context);
    xmlChar *text = xmlXPathCastToString(object);
    note_text((const char *)text);
    xmlFree(text);
    xmlXPathFreeObject(object);
    xmlXPathFreeContext(context);
}

static void validate(xmlDocPtr doc) {
    xmlValidCtxtPtr valid = xmlNewValidCtxt();
    note_number(xmlValidateDocument(valid, doc));
    xmlFreeValidCtxt(valid);
    xmlSchemaParserCtxtPtr parser = xmlSchemaNewMemParserCtxt(schema, (int)sizeof schema - 1);
    xmlSchemaPtr compiled = xmlSchemaParse(parser);
    xmlSchemaValidCtxtPtr context = xmlSchemaNewValidCtxt(compiled);
    note_number(xmlSchemaValidateDoc(context, doc));
    xmlSchemaFreeValidCtxt(context);
    xmlSchemaFree(compiled);
    xmlSchemaFreeParserCtxt(parser);
    xmlRelaxNGParserCtxtPtr relax_parser = xmlRelaxNGNewMemParserCtxt(relax, (int)sizeof relax - 1);
    xmlRelaxNGPtr relax_compiled = xmlRelaxNGParse(relax_parser);
    xmlRelaxNGValidCtxtPtr relax_context = xmlRelaxNGNewValidCtxt(relax_compiled);
    note_number(xmlRelaxNGValidateDoc(relax_context, doc));
    xmlRelaxNGFreeValidCtxt(relax_context);
    xmlRelaxNGFree(relax_compiled);
    xmlRelaxNGFreeParserCtxt(relax_parser);
}

static void read_all(void) {
    xmlTextReaderPtr reader = xmlReaderForMemory(document, (int)sizeof document - 1, NULL, NULL, XML_PARSE_NOENT);
    while (xmlTextReaderRead(reader) == 1) {
        note_number(xmlTextReaderNodeType(reader));
        note_text((const char *)xmlTextReaderConstName(reader));
    }
    xmlFreeTextReader(reader);
    static const char html[] = "<p>one<br>two<p class=x>three &amp; <b>bold";
    htmlDocPtr page = htmlReadMemory(html, (int)sizeof html - 1, NULL, NULL, HTML_PARSE_NOERROR);
    xmlChar *text = NULL;
    int size = 0;
    htmlDocDumpMemory(page, &text, &size);
    note(text, (size_t)size);
    xmlFree(text);
    xmlFreeDoc(page);
}

static void regression(void) {
    xmlSetGenericErrorFunc(NULL, quiet);
    xmlDocPtr doc = xmlReadMemory(document, (int)sizeof document - 1, NULL, NULL, XML_PARSE_NOENT | XML_PARSE_DTDATTR);
    note_document(doc);
    note_xpath(doc, "count(//item[@kind='b'])");
    note_xpath(doc, "concat(string(//item[1]), id('i2'), normalize-space(//item[3]))");
    note_xpath(doc, "//item[position() mod 2 = 1]/following-sibling::item");
    validate(doc);
    xmlDocPtr copy = xmlCopyDoc(doc, 1);
    note_document(copy);
    xmlPatternPtr pattern = xmlPatterncompile(BAD_CAST "list/item", NULL, 0, NULL);
    note_number(xmlPatternMatch(pattern, xmlFirstElementChild(xmlDocGetRootElement(doc))));
    xmlFreePattern(pattern);
    xmlFreeDoc(copy);
    xmlFreeDoc(doc);
    read_all();
    static const char *const wrong[] = {"", "<a>", "<a></b>", "<a b='1' b='2'/>", "<a>&x;</a>", "<a><![CDATA[</a>", "<a/>x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        doc = xmlReadMemory(wrong[i], (int)strlen(wrong[i]), NULL, NULL, XML_PARSE_NOERROR);
        note_number(doc != NULL);
        xmlFreeDoc(doc);
    }
}

/* A buffer of a size below zero. */
static const char *negative_length(void) {
    xmlChar memory[20];
    xmlChar *name = xmlBuildQName(BAD_CAST "name", BAD_CAST "prefix", memory, -1);
    if (name != NULL && name != memory) {
        xmlFree(name);
    }
    return name != NULL ? "made" : "refused";
}

static const char *probe(const char *name) {
    return strcmp(name, "negative-length") == 0 ? negative_length() : "unknown";
}
